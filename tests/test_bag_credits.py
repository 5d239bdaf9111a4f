"""Which tokens a bag of words credits after a text, and with how much.

The tiny tokenizer has a token for each of " moon", " star", " sun", " sea" and " cat", and spells everything else
byte by byte.
"""

from dataclasses import replace

import pytest
import torch
from bag_credit import credit, random_logits, rest, step
from helpers import STRONG, decode

from attribute_models import BagOfWords
from attribute_models.credit import CreditTables
from attribute_models.entries import Entry


@pytest.fixture
def every_beginning(monkeypatch):
    """Credit beginnings however seldom they are completed, which the tiny model almost never does."""
    monkeypatch.setattr("attribute_models.credit.LEAST_COMPLETION", 0.0)


def test_a_first_piece_is_credited_with_the_models_own_probability_of_the_rest(gpt2, tokenizer, every_beginning):
    bag = BagOfWords.from_words(["ox", "zebra"], tokenizer, casing=False).for_model(gpt2)
    space, *_ = tokenizer.encode(" ox")
    spelt = [tokenizer.encode(text) for text in (" ox", " zebra")]
    assert all(sequence[0] == space for sequence in spelt)
    wanted = sum(rest(gpt2, sequence, after=1) for sequence in spelt)
    assert credit(bag, tokenizer.encode("the"), space) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("position", range(1, 4))
def test_a_later_piece_is_credited_with_the_probability_of_what_is_still_missing(
    gpt2, tokenizer, position, every_beginning
):
    bag = BagOfWords.from_words(["moonray"], tokenizer, casing=False).for_model(gpt2)
    sequence = tokenizer.encode(" moonray")
    assert len(sequence) == 4
    begun = tokenizer.encode("the") + sequence[:position]
    wanted = rest(gpt2, sequence, after=position + 1)
    assert credit(bag, begun, sequence[position]) == pytest.approx(wanted, rel=1e-4)


def test_the_piece_that_completes_a_word_is_credited_in_full_where_the_text_has_begun_it(tokenizer):
    bag = BagOfWords.from_words(["zebra"], tokenizer)
    (last,) = tokenizer.encode("a")
    assert credit(bag, tokenizer.encode("the zebr"), last) == 1
    assert credit(bag, tokenizer.encode("the Zebr"), last) == 1
    assert credit(bag, tokenizer.encode("the (zebr"), last) == 1
    assert credit(bag, tokenizer.encode("zebr"), last) == 1
    for text in ("the zeb", "the zebrr", "the ebr", "the zebr ", "the zEbr", "r"):
        assert credit(bag, tokenizer.encode(text), last) == 0, text


def test_a_phrase_is_completed_by_its_last_word(tokenizer):
    bag = BagOfWords.from_words(["sun sea"], tokenizer)
    sun, sea = tokenizer.convert_tokens_to_ids(["Ġsun", "Ġsea"])
    assert credit(bag, [5, sun], sea) == 1
    assert credit(bag, [sun, 5], sea) == 0
    assert credit(bag, [5, sea], sun) == 0


def test_a_spelling_without_a_space_is_not_completed_inside_another_word(tokenizer):
    bag = BagOfWords.from_words(["cats"], tokenizer, casing=False)
    (last,) = tokenizer.encode("s")
    assert credit(bag, tokenizer.encode("the (cat"), last) == 1
    assert credit(bag, tokenizer.encode("cat"), last) == 1
    assert credit(bag, tokenizer.encode("the cat"), last) == 1
    assert credit(bag, tokenizer.encode("the bobcat"), last) == 0


def test_a_spelling_without_a_space_begins_after_an_opener_alone(tokenizer):
    bag = BagOfWords.from_token_ids([9], 272)
    bag = replace(bag, entries=(Entry("x", (9,)), Entry("x", (30,), after_opener=True)), openers=(7,))
    assert credit(bag, [5, 7], 30) == 1
    assert credit(bag, [7, 5], 30) == 0
    assert credit(bag, [5, 7], 9) == credit(bag, [7, 5], 9) == 1


def test_a_beginning_that_is_hardly_ever_completed_is_not_credited():
    bag = BagOfWords((Entry("a", (1, 2)), Entry("b", (3, 4))), 10, completions=((0.0101,), (0.0099,)))
    assert credit(bag, [9], 1) == pytest.approx(0.0101)
    assert credit(bag, [9], 3) == 0
    assert credit(bag, [3], 4) == 1


def test_a_first_piece_that_begins_many_words_earns_nothing(embedded):
    """ " s" as the beginning of saucepan; credited as if it were the word, it would earn 1."""
    model, tokenizer = embedded
    words = [word for word in ("saucepan", "spatula", "skillet") if len(tokenizer.encode(f" {word}")) > 1]
    assert words
    bag = BagOfWords.from_words(words, tokenizer).for_model(model, avoided=True)
    first = {tokenizer.encode(f" {word}")[0] for word in words}
    text = tokenizer.encode("She put it in the")
    for token in first:
        assert credit(bag, text, token) == 0
    logits = model(torch.tensor([text])).logits[:, -1]
    naive = BagOfWords.from_token_ids(sorted(first), len(tokenizer))
    assert bag.log_mass(step(logits, [text])).exp() < 1e-6 * naive.log_mass(step(logits, [text])).exp()


def test_weights_scale_the_credit_of_every_piece(gpt2, tokenizer, every_beginning):
    full, scaled = (
        BagOfWords.from_words({"moonray": weight, "cat": weight, "sun": 4.0}, tokenizer, casing=False).for_model(gpt2)
        for weight in (4.0, 1.0)
    )
    cat, sun = tokenizer.convert_tokens_to_ids(["Ġcat", "Ġsun"])
    text = tokenizer.encode("the")
    assert scaled.weights == {"moonray": 0.25, "cat": 0.25, "sun": 1.0}
    assert credit(full, text, cat) == credit(scaled, text, sun) == 1
    assert credit(scaled, text, cat) == pytest.approx(0.25)
    pieces = tokenizer.encode(" moonray")
    for position, piece in enumerate(pieces):
        begun = text + pieces[:position]
        assert credit(scaled, begun, piece) == pytest.approx(0.25 * credit(full, begun, piece), rel=1e-4)
    assert credit(scaled, text + pieces[:-1], pieces[-1]) == pytest.approx(0.25)


def test_a_token_is_never_credited_with_more_than_1(tokenizer):
    entries = (Entry("a", (1,)), Entry("b", (1, 2)), Entry("c", (3, 2)), Entry("d", (5, 3, 2)), Entry("e", (1, 4)))
    bag = BagOfWords(entries, 10, completions=((), (0.9,), (0.0,), (0.0, 0.0), (0.8,)))
    assert credit(bag, [9], 1) == 1
    assert credit(bag, [5, 3], 2) == 1
    logits = random_logits(1, 10)
    outside = logits.softmax(-1)[0, [0, 6, 7, 8, 9]].sum()
    assert bag.log_mass(step(logits, [[5, 3]])).exp() <= 1 - outside


def test_credits_of_several_words_that_begin_alike_add_up():
    bag = BagOfWords((Entry("a", (1, 2)), Entry("b", (1, 3), 0.5)), 10, completions=((0.25,), (0.5,)))
    assert credit(bag, [9], 1) == pytest.approx(0.25 + 0.5 * 0.5)


def test_a_bag_that_knows_no_language_model_credits_completions_alone(tokenizer):
    bag = BagOfWords.from_words(["moon", "zebra"], tokenizer, casing=False)
    space, z = tokenizer.encode(" z")
    assert bag.completions is None
    assert credit(bag, [5], space) == 0
    assert credit(bag, [5, space], z) == 0
    assert credit(bag, tokenizer.encode("the zebr"), *tokenizer.encode("a")) == 1
    assert credit(bag, [5], tokenizer.convert_tokens_to_ids("Ġmoon")) == 1


def test_credits_are_found_once_a_token_whatever_the_iterations(gpt2, tokenizer, monkeypatch):
    bag = BagOfWords.from_words(["moon", "star", "moonlight"], tokenizer)
    seen, real = [], CreditTables.credit
    monkeypatch.setattr(CreditTables, "credit", lambda *a: (seen.append(a[1].shape), real(*a))[1])
    decode(gpt2, [[3, 4, 5], [6, 7, 8]], [bag.for_model(gpt2)], STRONG, new=4)
    assert [tuple(shape) for shape in seen] == [(2, 3), (2, 4), (2, 5), (2, 6)]


def test_a_text_that_is_changed_where_it_stands_is_credited_anew(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon sea", "star"], tokenizer).for_model(gpt2)
    ids = torch.tensor([[3, 4, 5]])
    shown = [bag.log_mass(step(torch.zeros(1, len(tokenizer)), ids)).item()]
    ids[:, -1] = tokenizer.encode(" moon")[-1]
    shown += [bag.log_mass(step(torch.zeros(1, len(tokenizer)), text)).item() for text in (ids, ids.clone())]
    assert shown[0] != shown[1] == shown[2]
