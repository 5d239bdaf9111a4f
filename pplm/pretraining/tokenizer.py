"""A byte-level BPE tokenizer trained on a corpus; it can encode any text in any language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Tokenizer

from pplm.errors import InputError
from pplm.pretraining.corpus import SEPARATOR


def train_tokenizer(documents: Sequence[str], *, vocab_size: int, num_positions: int) -> Any:
    """Return a GPT-2 tokenizer of exactly `vocab_size` tokens, the end-of-text token being id 0.

    Raises
    ------
    InputError
        If the corpus yields fewer tokens, or `vocab_size` has no room for 256 bytes and the end-of-text token.

    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    found = tokenizer.get_vocab_size()
    if found != vocab_size:
        remedy = "lower it or add text" if found < vocab_size else "raise it"
        raise InputError(f"vocab_size is {vocab_size}, but this corpus yields {found} tokens; {remedy}")
    return GPT2Tokenizer(
        tokenizer_object=tokenizer,
        bos_token=SEPARATOR,
        eos_token=SEPARATOR,
        unk_token=SEPARATOR,
        pad_token=SEPARATOR,
        model_max_length=num_positions,
    )


def num_token_ids(tokenizer: Any) -> int:
    """Return how many rows an embedding matrix needs: the largest id plus 1, as ids may have gaps."""
    return max(tokenizer.get_vocab().values()) + 1
