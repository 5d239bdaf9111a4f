"""The held-out words of a topic: enough of them, and none that steering by the topic's bag would raise by itself."""

import itertools

import pytest

from attribute_models import read_word_list
from pplm.evaluation import words_of
from pplm.models.resources import data_path, shipped_names

TOPICS = ("computers", "legal", "military", "politics", "religion", "science", "space")
_ENDINGS = (
    "s es ed d ing ings er ers r rs or ors ion ions al ally ic ical ics ity ities ly y ies ied ment ments ist ists ism "
    "ian ians e ation ations ational ative ory ous ial ship ance ant ants ary ful"
)
ENDINGS = {"", *_ENDINGS.split()}
"""What may follow the beginning that words of one lemma share."""


def akin(one, other):
    """Say whether two words are one beginning of at least 3 letters with two of the endings: orbit, orbits, orbital."""
    shared = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return any(one[size:] in ENDINGS and other[size:] in ENDINGS for size in range(3, shared + 1))


def held_out(topic):
    return list(read_word_list(data_path("held_out_words", f"{topic}.txt")))


def test_the_seven_topics_have_held_out_words_and_a_bag():
    assert shipped_names("held_out_words", ".txt") == sorted(TOPICS)
    assert set(TOPICS) <= set(shipped_names("bags_of_words", ".txt"))


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_at_least_forty_held_out_words_of_different_lemmas(topic):
    lemmas = []
    for word in held_out(topic):
        assert words_of(word) == [word], "counted as one word, in lower case"
        if not any(akin(word, lemma) for lemma in lemmas):
            lemmas.append(word)
    assert len(lemmas) >= 40


@pytest.mark.parametrize("topic", TOPICS)
def test_no_held_out_word_shares_its_lemma_with_the_bag(topic):
    shared = [pair for pair in itertools.product(held_out(topic), read_word_list(topic)) if akin(*pair)]
    assert not shared


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("orbit", "orbital", True),
        ("galaxy", "galaxies", True),
        ("elect", "elections", True),
        ("defended", "defends", True),
        ("church", "church", True),
        ("defeat", "defend", False),
        ("proton", "protein", False),
        ("captain", "capture", False),
        ("sun", "sung", False),
    ],
)
def test_the_rule_of_lemmas_knows_families_from_neighbours(one, other, expected):
    assert akin(one, other) is akin(other, one) is expected
