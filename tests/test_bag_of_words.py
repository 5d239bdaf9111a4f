import logging

import pytest
import torch
from transformers import AutoTokenizer

from attribute_models import BagOfWords
from attribute_models.word_list import read_word_list
from pplm import InputError
from pplm.interface import SteeringStep
from pplm.resources import data_path, shipped_names

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


@pytest.fixture(scope="module")
def mini():
    return AutoTokenizer.from_pretrained(data_path("gpt2-mini"))


def step(logits):
    ids = torch.zeros(logits.shape[0], 1, dtype=torch.long)
    return SteeringStep(ids, ids.bool(), logits, lambda: None)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def test_the_promised_lists_are_shipped():
    assert set(LISTS) <= set(shipped_names("bags_of_words", ".txt"))


@pytest.mark.parametrize("name", LISTS)
def test_a_shipped_list_is_lower_case_of_fair_size_and_mostly_single_tokens(mini, name):
    lines = data_path("bags_of_words", f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert 60 <= len(lines) <= 200
    assert lines == [line.strip().lower() for line in lines]
    assert all(lines)
    assert len(set(lines)) == len(lines)
    bag = BagOfWords.load(name, mini)
    assert len(bag.token_ids) >= 40
    assert set(bag.words) | set(bag.unmatched) == set(lines)
    assert bag.name == name


def test_words_are_matched_with_a_leading_space(mini):
    bag = BagOfWords.load("space", mini)
    assert sorted(mini.encode(f" {word}")[0] for word in bag.words) == list(bag.token_ids)
    assert {mini.decode([token]) for token in bag.token_ids} == {f" {word}" for word in bag.words}


def test_words_that_are_not_one_token_are_logged_with_their_number_and_kept(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        bag = BagOfWords.from_words(["moon", "zebra", "star", "quark"], tokenizer, name="mixed")
    assert bag.unmatched == ("zebra", "quark")
    assert bag.words == ("moon", "star")
    assert len(caplog.records) == 1
    assert "'mixed': 2 of 4 words" in caplog.text
    assert "zebra, quark" in caplog.text


def test_a_bag_whose_words_all_match_logs_nothing(tokenizer, caplog):
    BagOfWords.from_words(["moon", "star"], tokenizer)
    assert caplog.text == ""


def test_a_list_is_read_one_word_a_line_with_blank_lines_space_and_doubles_taken_away(tmp_path):
    path = write(tmp_path / "list.txt", "\ufeffmoon\r\n\r\n  star \nmoon\n\n")
    assert read_word_list(path) == ["moon", "star"]


def test_a_file_is_loaded_under_its_own_name(tmp_path, tokenizer):
    bag = BagOfWords.load(write(tmp_path / "mine.txt", "moon\nsea\n"), tokenizer)
    assert (bag.name, bag.words) == ("mine", ("moon", "sea"))


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_an_empty_list_is_refused(tmp_path, tokenizer, content):
    with pytest.raises(InputError, match="is empty; write one word a line"):
        BagOfWords.load(write(tmp_path / "empty.txt", content), tokenizer)


def test_a_list_of_which_no_word_is_a_token_is_refused_with_their_number(tmp_path, tokenizer):
    with pytest.raises(InputError, match="none of its 2 words is a single token"):
        BagOfWords.load(write(tmp_path / "odd.txt", "zebra\nquark"), tokenizer)
    with pytest.raises(InputError, match="is empty"):
        BagOfWords.from_words([], tokenizer)


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


def test_the_loss_is_minus_the_log_of_the_summed_probability():
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(0)) * 3
    bag = BagOfWords.from_token_ids([4, 7, 15], 20)
    wanted = -logits.softmax(-1)[:, [4, 7, 15]].sum(-1).log()
    torch.testing.assert_close(bag.loss(step(logits)), wanted)


def test_a_token_named_twice_counts_once():
    logits = torch.randn(2, 20, generator=torch.Generator().manual_seed(0))
    once, twice = BagOfWords.from_token_ids([4, 7], 20), BagOfWords.from_token_ids([7, 4, 4], 20)
    assert torch.equal(once.loss(step(logits)), twice.loss(step(logits)))


def test_the_loss_of_a_nearly_impossible_bag_is_large_and_finite():
    logits = torch.zeros(1, 10)
    logits[0, 3] = -500.0
    logits.requires_grad_()
    loss = BagOfWords.from_token_ids([3], 10).loss(step(logits))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == pytest.approx(500 + torch.tensor(9.0).log().item())
    assert gradient.isfinite().all()


@pytest.mark.parametrize("token", [-1, 10])
def test_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(InputError, match=rf"token id {token}, outside 0\.\.9"):
        BagOfWords.from_token_ids([3, token], 10)


def test_a_bag_without_tokens_is_refused():
    with pytest.raises(InputError, match="'nothing' is empty"):
        BagOfWords.from_token_ids([], 10, name="nothing")


def test_a_bag_for_a_larger_vocabulary_is_refused_when_it_is_used():
    with pytest.raises(InputError, match="vocabulary of 30 tokens, the model has 20"):
        BagOfWords.from_token_ids([4, 25], 30).loss(step(torch.zeros(1, 20)))
