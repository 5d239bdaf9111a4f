"""How words become token sequences; the tiny tokenizer spells byte by byte what is not among its five words."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from attribute_models import BagOfWords
from attribute_models.entries import opener_ids, spell


@pytest.fixture(scope="module")
def words_only():
    """A tokenizer of three whole words that knows no letters."""
    vocab = {"[UNK]": 0, "a": 1, "(": 2, "moon": 3}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def spellings(tokenizer, *words, casing=True):
    """Return (text, after_opener) of every spelling."""
    entries, unmatched = spell(dict.fromkeys(words, 1.0), tokenizer, casing=casing)
    assert unmatched == ()
    return {(tokenizer.decode(entry.token_ids), entry.after_opener) for entry in entries}


def test_a_word_is_spelt_with_and_without_a_space_as_written_and_capitalised(tokenizer):
    assert spellings(tokenizer, "moon") == {(" moon", False), ("moon", True), (" Moon", False), ("Moon", True)}


def test_without_casing_a_word_is_spelt_as_written(tokenizer):
    assert spellings(tokenizer, "moon", casing=False) == {(" moon", False), ("moon", True)}


@pytest.mark.parametrize("word", ["NASA", "Paris", "McDonald", "New York"])
def test_names_and_acronyms_are_spelt_one_way(tokenizer, word):
    assert spellings(tokenizer, word) == {(f" {word}", False), (word, True)}


def test_a_phrase_is_capitalised_at_its_beginning_or_throughout(tokenizer):
    variants = {"black hole", "Black hole", "Black Hole"}
    assert spellings(tokenizer, "black hole") == {(f" {v}", False) for v in variants} | {(v, True) for v in variants}


def test_a_known_word_is_one_token_and_a_phrase_of_known_words_one_a_word(tokenizer):
    entries, _ = spell({"moon": 1.0, "sun sea": 1.0}, tokenizer, casing=False)
    with_space = {entry.word: entry.token_ids for entry in entries if not entry.after_opener}
    assert with_space["moon"] == tuple(tokenizer.convert_tokens_to_ids(["Ġmoon"]))
    assert with_space["sun sea"] == tuple(tokenizer.convert_tokens_to_ids(["Ġsun", "Ġsea"]))


def test_space_around_a_word_is_no_part_of_it(tokenizer):
    padded = BagOfWords.from_words([" moon", "sun  sea "], tokenizer)
    assert padded.words == ("moon", "sun sea")
    plain = BagOfWords.from_words(["moon", "sun sea"], tokenizer)
    assert {e.token_ids for e in padded.entries} == {e.token_ids for e in plain.entries}


def test_words_that_a_tokenizer_cannot_spell_are_named_and_the_others_kept(words_only):
    entries, unmatched = spell({"moon": 1.0, "star": 1.0, "sun": 1.0}, words_only, casing=False)
    assert unmatched == ("star", "sun")
    assert {entry.word for entry in entries} == {"moon"}
    assert {entry.token_ids for entry in entries} == {(3,)}


def test_the_heaviest_word_that_can_be_spelt_has_weight_one(words_only, tmp_path):
    """So a bag weighs the same once it is saved, without the words that are lost, and loaded."""
    bag = BagOfWords.from_words({"star": 4.0, "moon": 1.0, "a": 0.5}, words_only)
    assert bag.weights == {"moon": 1.0, "a": 0.5}
    bag.save(tmp_path / "bag.txt")
    assert BagOfWords.load(tmp_path / "bag.txt", words_only).weights == bag.weights


def test_a_listed_spelling_goes_before_another_words_capitalised_one(tokenizer):
    """The month and the verb keep a weight each, whichever comes first."""
    for words in ({"may": 0.25, "May": 1.0}, {"May": 1.0, "may": 0.25}):
        entries, _ = spell(words, tokenizer, casing=True)
        assert {(tokenizer.decode(e.token_ids), e.word, e.weight) for e in entries} == {
            (" may", "may", 0.25), ("may", "may", 0.25), (" May", "May", 1.0), ("May", "May", 1.0)}  # fmt: skip


def test_weights_are_scaled_to_a_largest_of_1(tokenizer):
    entries, _ = spell({"moon": 4.0, "sun": 1.0}, tokenizer, casing=True)
    assert {(entry.word, entry.weight) for entry in entries} == {("moon", 1.0), ("sun", 0.25)}


def test_openers_are_the_tokens_that_end_where_a_word_may_begin(tokenizer):
    openers = set(opener_ids(tokenizer))
    for text in ("\n", "(", "[", '"', "/", "{", " "):
        assert tokenizer.encode(text)[-1] in openers, text
    for text in ("a", ")", ".", "!", " moon", "'", "-"):
        assert tokenizer.encode(text)[-1] not in openers, text
    assert tokenizer.eos_token_id in openers
