"""Chinese, Japanese and Thai put no space between words, so a word of a bag counts in the middle of a text."""

from dataclasses import replace

import pytest
import torch
from conftest import END
from helpers import STRONG
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import pplm
from attribute_models import BagOfWords
from attribute_models.entries import spell
from pplm.interface import SteeringStep

WORDS = {"月亮": "我看见", "ひかり": "まちの", "พระจันทร์": "เห็น"}
"""Words, each with the beginning of a text of its script."""


def _alphabet():
    """Return byte-level BPE's characters in the order of the bytes they stand for."""
    kept = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(others)) for byte in range(256)]


@pytest.fixture(scope="module")
def whole_words():
    """A byte-level tokenizer that has each of the words as one token."""
    alphabet = _alphabet()
    vocab = {char: number for number, char in enumerate(alphabet)}
    merges = []

    def merge(pieces):
        whole, *rest = pieces
        for piece in rest:
            merges.append((whole, piece))
            whole += piece
            vocab.setdefault(whole, len(vocab))
        return whole

    letters = {word: [merge(alphabet[byte] for byte in letter.encode()) for letter in word] for word in WORDS}
    for pieces in letters.values():
        merge(pieces)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(dict.fromkeys(merges))))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)


@pytest.fixture(scope="module")
def model(whole_words):
    torch.manual_seed(0)
    size = len(whole_words)
    config = GPT2Config(vocab_size=size, n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.25,
                        bos_token_id=size - 1, eos_token_id=size - 1)  # fmt: skip
    return pplm.freeze(GPT2LMHeadModel(config))


def mass_of(bag, ids, token):
    """Return the bag's mass after some ids where one token is certain."""
    logits = torch.full((1, bag.vocab_size), -1000.0)
    logits[0, token] = 1000.0
    shown = torch.tensor([ids])
    return bag.log_mass(SteeringStep(shown, torch.ones_like(shown).bool(), logits, lambda: None)).exp().item()


@pytest.mark.parametrize(("word", "before"), WORDS.items())
def test_a_word_counts_after_any_character(whole_words, word, before):
    (token,) = whole_words.encode(word)
    bag = BagOfWords.from_words([word], whole_words)
    for text in (before, "the ", "the", before + "。", "\n"):
        assert mass_of(bag, whole_words.encode(text), token) == pytest.approx(1.0), text


@pytest.mark.parametrize("word", ["T恤", "AI芯片", "3月", "《红楼梦》", "「星」"])
def test_a_word_that_mixes_scripts_counts_anywhere(tokenizer, word):
    entries, _ = spell({word: 1.0}, tokenizer, casing=False)
    assert tuple(tokenizer.encode(word)) in {e.token_ids for e in entries if not e.after_opener}


def test_a_word_of_a_script_with_spaces_does_not_count_inside_another(tokenizer):
    entries, _ = spell({"cat": 1.0, "луна": 1.0, "달": 1.0}, tokenizer, casing=False)
    assert {tokenizer.decode(e.token_ids) for e in entries if not e.after_opener} == {" cat", " луна", " 달"}


@pytest.mark.parametrize(("word", "before"), WORDS.items())
def test_a_word_that_falls_apart_into_bytes_is_completed_in_the_middle_of_a_text(tokenizer, word, before):
    *begun, last = tokenizer.encode(word)
    assert len(begun) > 4
    bag = BagOfWords.from_words([word], tokenizer)
    assert mass_of(bag, tokenizer.encode(before) + begun, last) == pytest.approx(1.0)
    assert mass_of(bag, tokenizer.encode(before) + begun[1:], last) < 1e-6


@pytest.mark.parametrize(("word", "before"), WORDS.items())
def test_steering_changes_a_text_without_spaces(model, whole_words, word, before):
    bag = BagOfWords.from_words([word], whole_words)
    request = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    plain = pplm.generate(model, whole_words, before, **request)[0]
    strong = replace(STRONG, step_size=2.0, num_iterations=10, gm_scale=1.0, kl_scale=0.0)
    steered = pplm.generate(model, whole_words, before, attributes=[bag], steering=strong, **request)[0]
    assert steered.token_ids != plain.token_ids
    assert word in steered.completion
    assert word not in plain.completion


def test_a_word_in_bytes_is_begun_by_steering_where_its_pieces_are_credited(gpt2, tokenizer, monkeypatch):
    monkeypatch.setattr("attribute_models.credit.LEAST_COMPLETION", 0.0)  # the random model completes almost nothing
    bag = BagOfWords.from_words(["月"], tokenizer)
    request = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": None}
    text = pplm.generate(gpt2, tokenizer, "我看见", attributes=[bag], steering=STRONG, **request)[0]
    assert text.attribute_loss[0][-1] < text.attribute_loss[0][0] < float("inf")
