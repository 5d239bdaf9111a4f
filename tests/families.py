"""What should become of every family of models: the table that the tests hold and `docs/families.md` shows."""

import re
from dataclasses import dataclass

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VERSION = "5.23.0"
"""The version of transformers that the table is about; others have other families, and may refuse for other reasons."""
CLASSES = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""The class of every family, by the name that its config gives it (`model_type`)."""


@dataclass(frozen=True)
class Reason:
    """Why a family is refused, not built, or limited.

    Attributes
    ----------
    shown
        What the table in the docs says.
    error
        Regular expression of the error that shows it.

    """

    shown: str
    error: str


REFUSED = {
    Reason(
        "keeps a running state, of a recurrence or a convolution, in all or some layers", "keeps a running state"
    ): """bailing_hybrid bamba falcon_h1 falcon_mamba granitemoehybrid inkling2_text inkling_text jamba kimi_linear lfm2
        lfm2_moe lfm3 mamba mamba2 minimax nemotron_h olmo_hybrid qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text
        qwen3_next qwen4_exp qwen4_exp_text recurrent_gemma rwkv xlstm zamba zamba2 zaya""",
    Reason(
        "attends only to positions that an index of its own chooses", "chosen by an index of its own"
    ): "axk2 deepseek_v32 dots3_note dots3_note_text glm_moe_dsa hy_v4",
    Reason("keeps a compressed history", "keeps something of its own, heavily_compressed_attention"): "deepseek_v4",
    Reason("has layers that read the keys and values of other layers", "keeps no keys and values of its own"):
        "gemma3n_text",
    Reason("keeps no key/value cache", "keeps no key/value cache"): "openai-gpt xlm",
    Reason("keeps its history in a form of its own (hidden states)", "keeps its history as (mems|past_buckets_states)"):
        "reformer xlnet",
    Reason("puts positions of its own before the text", "puts positions of its own before the text"): "cpmant",
    Reason("has layers of cross-attention to an image, which hold none of the text", "kept no keys and values of the"):
        "mllama",
    Reason("has a config without a number of layers, so transformers makes no cache for it", "no number of layers"):
        "blt",
    Reason("generates sound by a method of its own, which no decoding loop plugs into", "takes no custom_generate"):
        "musicgen musicgen_melody",
}  # fmt: skip
NOT_BUILT = {
    Reason("its encoder of images needs the package timm", "requires the timm library"): "gemma3n",
    Reason("this version of transformers cannot build it: \"The set of layer types producing a cache is different "
           'than the set of layer types using them"', "set of layer types producing a cache is different"):
        "gemma4_assistant gemma4_unified_assistant",
}  # fmt: skip
LIMITED = {
    Reason("loaded with `is_decoder=True`", "attends to later positions"): """bert bert-generation big_bird camembert
        data2vec-text electra ernie megatron-bert rembert roberta roberta-prelayernorm roc_bert roformer xlm-roberta
        xlm-roberta-xl xmod""",
    Reason("its decoder alone", "is an encoder-decoder"): """bart bigbird_pegasus blenderbot blenderbot-small marian
        mbart mvp pegasus plbart prophetnet whisper""",
    Reason("prompts of one length in a batch", "counts padding as positions"): """bart bigbird_pegasus blenderbot
        blenderbot-small git marian mbart mvp pegasus plbart prophetnet trocr whisper""",
    Reason("all layers are moved (`layers=0`)", "does not keep its . layers in one list"): "hrm_text longcat_flash",
    Reason("texts no longer than its sliding window", "leaves it to its cache to forget"): "moshi",
    Reason("heads without a look-ahead (`horizon_length=0`)", "cannot look ahead"): "gemma4 gemma4_text",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What becomes of a family: "works", "refused" or "not built".

    Attributes
    ----------
    reasons
        Why it is refused or not built; where it works, what is limited.

    """

    kind: str
    reasons: tuple[Reason, ...] = ()


def wanted_outcome(family):
    """Return what the table says of a family; it works where the table says nothing."""
    for kind, table in (("refused", REFUSED), ("not built", NOT_BUILT)):
        if found := tuple(reason for reason, families in table.items() if family in families.split()):
            return Outcome(kind, found)
    return Outcome("works", tuple(reason for reason, families in LIMITED.items() if family in families.split()))


def named_outcome(kind, errors):
    """Return an outcome with the table's reasons for the texts of errors; an unknown one stays as it is."""
    table = {"works": LIMITED, "refused": REFUSED, "not built": NOT_BUILT}[kind]
    known = [reason for reason in table if any(re.search(reason.error, text) for text in errors)]
    unknown = [text for text in errors if not any(re.search(reason.error, text) for reason in table)]
    return Outcome(kind, (*known, *unknown))
