"""Tiny models with random weights, shared and read-only; nothing here needs the network."""

import gc
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # as the command line does before it imports transformers
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are taken by the other tests; also for what a test starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
from beside import room
from browser import Visitor, started_chromium
from deprecations import deprecated_calls
from tiny_pretraining import train, write_corpus
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import pplm
from attribute_models import BagOfWords, Discriminator
from pplm.cli import main
from pplm.models.resources import cache_folder

pytest_plugins = ["server_clients", "web_texts"]  # their fixtures

# `scripts/gpu_check.py` runs some of these tests on an accelerator.
torch.set_default_device(os.environ.get("PPLM_TEST_DEVICE"))
# Tiny matrices gain nothing from a second thread, and lose a factor of 30 where cores are shared.
torch.set_num_threads(1)
# What has been imported stays; a garbage collection, which follows each lack of memory, need not look at it again.
gc.freeze()
# A deadline per example measures the machine, which other tests may share.
hypothesis.settings.register_profile("pplm", deadline=None)
hypothesis.settings.load_profile("pplm")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Under pytest-xdist, let nothing run beside a test that is marked `alone`."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with room(Path(item.config.option.basetemp).parent, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Fail a test in which a call of ours meets a deprecation."""
    with deprecated_calls() as found:
        result = yield
    if found:
        pytest.fail("calls of ours meet deprecations:\n" + "\n".join(found), pytrace=False)
    return result


@pytest.fixture(scope="session", autouse=True)
def no_tuned_presets(tmp_path_factory):
    """Keep what the user has tuned on this computer out of the tests; converted models are taken from the cache."""
    models, own = cache_folder("models"), tmp_path_factory.mktemp("cache")
    models.mkdir(parents=True, exist_ok=True)
    (own / "models").symlink_to(models.absolute())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPLM_CACHE", str(own))
        yield


WORDS = ("moon", "star", "sun", "sea", "cat")
END = "<|end|>"


def _tiny_tokenizer():
    """Byte-level BPE: 256 bytes, a few words with a leading space, and an end-of-text token."""
    vocab = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in WORDS:
        whole = "Ġ"
        for letter in word:
            merges.append((whole, letter))
            whole += letter
            vocab.setdefault(whole, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(dict.fromkeys(merges))))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)
    assert fast.eos_token_id == len(vocab)
    return fast


@pytest.fixture(scope="session")
def tokenizer():
    return _tiny_tokenizer()


def _tiny_gpt2(tokenizer, *, positions, seed):
    """A frozen GPT-2 of 2 layers and width 32; its end-of-text token is the tokenizer's."""
    torch.manual_seed(seed)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.25,
        bos_token_id=end,
        eos_token_id=end,
    )
    return pplm.freeze(GPT2LMHeadModel(config))


@pytest.fixture(scope="session")
def gpt2(tokenizer):
    """A frozen GPT-2 of 2 layers and width 32; its end-of-text token is the vocabulary's last."""
    return _tiny_gpt2(tokenizer, positions=64, seed=0)


CHAT_TEMPLATE = """\
{%- if messages[0].role != "system" %}<|turn|>system
Be a cat<|done|>
{% endif -%}
{%- for message in messages %}<|turn|>{{ message.role }}
{{ message.content }}<|done|>
{% endfor -%}
{%- if add_generation_prompt %}<|turn|>assistant
{% endif -%}"""
"""With a system message of its own; what ends a turn is not what ends a text."""


@pytest.fixture(scope="session")
def chat():
    """A GPT-2 like `gpt2` and its tokenizer, which has a chat template."""
    tokenizer = _tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|done|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return _tiny_gpt2(tokenizer, positions=512, seed=3), tokenizer


@pytest.fixture
def chat_model(monkeypatch, chat):
    """Let the command line's --model tiny be `chat`."""
    load = pplm.load_model

    def load_once(name, **options):
        return chat if name == "tiny" else load(name, **options)

    monkeypatch.setattr("pplm.models.loading.load_model", load_once)


@pytest.fixture(scope="session")
def llama():
    """A frozen Llama of 2 layers and width 32, with grouped keys and values."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=90,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return pplm.freeze(LlamaForCausalLM(config))


@pytest.fixture(params=["gpt2", "llama"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def embedded():
    """The shipped model and its tokenizer."""
    return pplm.load_model(device="cpu")


@pytest.fixture(scope="session")
def bag():
    return BagOfWords.from_token_ids([11, 23, 42, 61, 77], 90, name="bag")


@pytest.fixture(scope="session")
def words(tokenizer):
    """A bag of three words that `tokenizer` spells with one token each."""
    return BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="sky")


@pytest.fixture(scope="session")
def head():
    """A discriminator of three classes on hidden states of width 32."""
    generator = torch.Generator().manual_seed(3)
    # Small enough to stay unsure: where its loss saturates, the normalised gradient is rounding noise.
    weight = torch.randn(3, 32, generator=generator) * 0.3
    return Discriminator.from_weights(weight, torch.zeros(3), ["a", "b", "c"], "b", name="head")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A file of little stories to train on."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    """A run of `train-base` that nobody interrupted, read-only: (folder, report)."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    return folder, train(corpus, folder, command="pplm train-base stories.txt --output tiny")


@pytest.fixture
def command(capsys):
    """Call `pplm` with some arguments; return its exit code, stdout and stderr."""

    def call(*arguments):
        code = 0
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def chromium():
    """A real browser, for the tests of one module, which are marked `browser` and `slow`."""
    with started_chromium() as browser:
        yield browser


@pytest.fixture
def visitor(chromium):
    """Make visitors, e.g. `visitor(color_scheme="dark")`; afterwards none of their pages may have complained."""
    made = []

    def arrive(**options):
        made.append(Visitor(chromium, options))
        return made[-1]

    yield arrive
    for one in made:
        one.context.close()
        assert one.complaints == []
