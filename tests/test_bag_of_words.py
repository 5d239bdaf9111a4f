"""Bags of words: the shipped lists, words and files that are refused, and how a bag prints."""

import pytest
import torch
from bag_credit import step

import pplm
from attribute_models import BagOfWords
from pplm import InputError
from pplm.models.resources import data_path, shipped_names

LISTS = [
    "computers",
    "fantasy",
    "kitchen",
    "legal",
    "military",
    "monsters",
    "politics",
    "positive",
    "religion",
    "science",
    "space",
    "technology",
]


# --- shipped lists ---------------------------------------------------------------------------------------------


def test_the_promised_lists_are_shipped():
    assert set(LISTS) <= set(shipped_names("bags_of_words", ".txt"))


@pytest.mark.parametrize("name", LISTS)
def test_a_shipped_list_is_lower_case_of_fair_size_and_mostly_single_tokens(embedded, name):
    lines = data_path("bags_of_words", f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert 60 <= len(lines) <= 200
    assert lines == [line.strip().lower() for line in lines]
    assert all(lines)
    assert len(set(lines)) == len(lines)
    tokenizer = embedded[1]
    bag = BagOfWords.from_words(lines, tokenizer, name=name)
    assert bag.words == tuple(lines)
    assert bag.unmatched == ()
    assert sum(len(ids) == 1 for ids in tokenizer([f" {word}" for word in lines]).input_ids) >= 40
    assert len(lines) - len(bag.long_words) >= 40


def test_a_shipped_list_is_loaded_by_its_name(embedded):
    bag = BagOfWords.load("space", embedded[1])
    assert bag.name == "space"
    assert "planet" in bag.words
    assert embedded[1].encode(" planet") in [list(entry.token_ids) for entry in bag.entries]


@pytest.mark.parametrize("name", LISTS)
def test_no_shipped_list_is_warned_of(embedded, name):
    bag = BagOfWords.load(name, embedded[1]).for_model(embedded[0])
    assert 2 * len(bag.report().never_begun) < len(bag.words)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


# --- what is refused -------------------------------------------------------------------------------------------


def test_a_file_is_loaded_under_its_own_name(tmp_path, tokenizer):
    bag = BagOfWords.load(write(tmp_path / "mine.txt", "moon\nsea\t0.5\n"), tokenizer)
    assert (bag.name, bag.weights) == ("mine", {"moon": 1.0, "sea": 0.5})


def test_a_bag_of_nothing_is_refused(tokenizer):
    with pytest.raises(InputError, match="'bag' is empty; add words"):
        BagOfWords.from_words([], tokenizer)
    with pytest.raises(InputError, match="the tokenizer can spell none of its 2 words"):
        BagOfWords((), 10, unmatched=("zebra", "quark"))


def test_a_text_in_place_of_a_list_of_words_is_refused(tokenizer):
    with pytest.raises(InputError, match="words must be a list of words; got the text 'space'"):
        BagOfWords.from_words("space", tokenizer)


@pytest.mark.parametrize("word", ["", " ", "\t"])
def test_an_empty_word_is_refused(tokenizer, word):
    with pytest.raises(InputError, match="'sky' holds an empty word; remove it"):
        BagOfWords.from_words(["moon", word], tokenizer, name="sky")


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), "2", None])
def test_a_weight_that_is_no_number_above_0_is_refused(tokenizer, weight):
    with pytest.raises(InputError, match=f"'sky': the weight of 'moon' must be a number above 0; got {weight!r}"):
        BagOfWords.from_words({"moon": weight, "sun": 1.0}, tokenizer, name="sky")


def test_a_word_that_is_no_text_is_refused(tokenizer):
    with pytest.raises(InputError, match="'sky' holds 3, which is not a text; remove it"):
        BagOfWords.from_words(["moon", 3], tokenizer, name="sky")


@pytest.mark.parametrize("words", [["battery"], "battery", {"battery": 1.0}])
def test_words_in_place_of_spelt_entries_are_refused_with_what_to_use(tokenizer, words):
    with pytest.raises(InputError, match=r"got .*battery.*Use BagOfWords\.from_words\(words, tokenizer\)"):
        BagOfWords(words, tokenizer)


def test_a_list_that_is_not_utf_8_is_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8 .*save it as UTF-8"):
        BagOfWords.load(write(tmp_path / "latin.txt", "caf\xe9\n".encode("latin-1")), tokenizer)


def test_a_folder_is_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match="is a folder; name a text file"):
        BagOfWords.load(tmp_path, tokenizer)


def test_an_unknown_name_is_refused_with_the_shipped_ones(tokenizer):
    with pytest.raises(InputError, match="'spcae' is neither a file nor a shipped list") as caught:
        BagOfWords.load("spcae", tokenizer)
    assert all(name in str(caught.value) for name in LISTS)


@pytest.mark.parametrize("name", ["~nosuchuser/list.txt", "moon " * 100, "a/" * 300, "with\0null"])
def test_a_name_that_cannot_be_a_path_is_refused_as_any_unknown_one(tokenizer, name):
    with pytest.raises(InputError, match="is neither a file nor a shipped list"):
        BagOfWords.load(name, tokenizer)


@pytest.mark.parametrize("token", [-1, 10])
def test_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(InputError, match=rf"token id {token}, outside 0\.\.9"):
        BagOfWords.from_token_ids([3, token], 10)


def test_a_bag_without_tokens_is_refused():
    with pytest.raises(InputError, match="'nothing' is empty"):
        BagOfWords.from_token_ids([], 10, name="nothing")


def test_a_bag_for_a_larger_vocabulary_is_refused_when_it_is_used():
    with pytest.raises(InputError, match="vocabulary of 30 tokens, the model has 20 and lacks token 25"):
        BagOfWords.from_token_ids([4, 25], 30).loss(step(torch.zeros(1, 20)))
    assert BagOfWords.from_token_ids([4, 19], 30).loss(step(torch.zeros(1, 20))).isfinite()


def test_a_bag_prints_its_name_and_sizes_also_in_an_error(tokenizer):
    bag = BagOfWords.from_words([*"abcdefgh", "moon"], tokenizer, name="mine")
    assert repr(bag) == f"BagOfWords('mine', 9 words, {len(bag.entries)} spellings)"
    with pytest.raises(InputError) as error:
        pplm.steered_decoding([[bag, 1.0]])
    assert len(str(error.value)) < 200
