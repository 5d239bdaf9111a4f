"""Measures of texts, against values computed by hand and against what must hold for any texts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pplm import InputError
from pplm.evaluation import (
    dist_n,
    mean_dist,
    perplexity,
    repeat_rate,
    repeated_ngram_rate,
    word_share,
    words_of,
)

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "moon"]), max_size=8).map(" ".join), max_size=5)
MEASURES = {
    "dist_1": lambda texts: dist_n(texts, 1),
    "dist_3": lambda texts: dist_n(texts, 3),
    "mean_dist": mean_dist,
    "repeat_rate": repeat_rate,
    "repeated_ngram_rate": lambda texts: repeated_ngram_rate(texts, 2),
    "word_share": lambda texts: word_share(texts, ["moon", "a b"]),
}


def same(one, other):
    return one == pytest.approx(other) or (math.isnan(one) and math.isnan(other))


def test_words_are_lower_case_and_keep_apostrophes_and_hyphens_inside():
    expected = ["the", "moon's", "far-side", "isn't", "it", "2nd", "so"]
    assert words_of("The moon's far-side, isn't it? 2nd -- 'so'_") == expected


def test_distinct_ngrams_are_pooled_over_the_texts():
    texts = ["a b a", "a b"]
    assert dist_n(texts, 1) == pytest.approx(2 / 5)
    assert dist_n(texts, 2) == pytest.approx(2 / 3)  # a-b, b-a, a-b; "a a" across the two texts does not count
    assert dist_n(texts, 3) == 1
    assert math.isnan(dist_n(texts, 4))


def test_tokens_of_dist_are_separated_by_white_space_as_in_the_paper():
    assert dist_n(["Moon moon moon."], 1) == 1


@given(st.integers(1, 30))
def test_a_repeated_word_has_one_distinct_ngram_of_each_length(count):
    text = " ".join(["moon"] * count)
    assert dist_n([text], 1) == pytest.approx(1 / count)
    if count >= 3:
        expected = (1 / count + 1 / (count - 1) + 1 / (count - 2)) / 3
        assert mean_dist([text]) == pytest.approx(expected)


@given(st.integers(1, 12), st.integers(1, 3))
def test_texts_without_a_repetition_have_a_dist_of_1(count, n):
    text = " ".join(map(str, range(count)))
    assert same(dist_n([text], n), 1.0 if count >= n else math.nan)
    assert mean_dist([text]) == 1
    assert repeat_rate([text, text]) == 0 or count == 1


def test_the_mean_of_dist_is_over_the_three_lengths_and_leaves_out_what_a_text_is_too_short_for():
    assert mean_dist(["a b a", "a b"]) == pytest.approx((2 / 5 + 2 / 3 + 1) / 3)
    assert mean_dist(["a a"]) == pytest.approx((1 / 2 + 1) / 2)
    assert math.isnan(mean_dist(["", " "]))


@given(texts=TEXTS, name=st.sampled_from(sorted(MEASURES)), data=st.data())
def test_no_measure_depends_on_the_order_of_the_texts_or_on_empty_ones(texts, name, data):
    measure = MEASURES[name]
    shuffled = data.draw(st.permutations([*texts, "", " "]))
    assert same(measure(shuffled), measure(texts))
    assert math.isnan(measure(texts)) or 0 <= measure(texts) <= 1


def test_an_immediate_repeat_is_counted_among_the_words_that_could_be_one():
    assert repeat_rate(["the the lake", "Moon, moon!"]) == pytest.approx(2 / 3)
    assert math.isnan(repeat_rate(["one", ""]))


def test_repeated_ngrams_are_those_that_occurred_before_in_their_own_text():
    # ab, bc, ca, ab, bc: the last two came before
    assert repeated_ngram_rate(["a b c. A b c", "a b"], 2) == pytest.approx(2 / 6)
    assert repeated_ngram_rate(["a b c d", "a b c d"]) == 0
    assert math.isnan(repeated_ngram_rate(["a b c"]))


def test_a_repeated_sentence_is_seen_where_immediate_repeats_see_nothing():
    text = "the lake is cold and deep " * 3
    assert repeat_rate([text]) == 0
    # 18 words have 15 runs of 4, of which 6 are different
    assert repeated_ngram_rate([text]) == pytest.approx(9 / 15)


def test_listed_words_are_counted_whatever_their_case_and_punctuation():
    assert word_share(["The Moon, a star.", "stars"], ["moon", "STAR"]) == pytest.approx(2 / 5)
    assert math.isnan(word_share([" ", "..."], ["moon"]))
    assert word_share(["a moon"], []) == 0


def test_a_phrase_counts_all_its_words_where_they_stand_together():
    assert word_share(["a Black hole is black"], ["black hole"]) == pytest.approx(2 / 5)
    assert word_share(["hole black"], ["black hole"]) == 0


def test_a_word_counts_once_however_many_entries_it_belongs_to():
    assert word_share(["black hole sun"], ["black hole", "hole", "hole sun"]) == 1


def test_an_entry_that_can_never_be_found_is_refused():
    with pytest.raises(InputError, match=r"words holds '\+\+'"):
        word_share(["a"], ["a", "++"])


@pytest.mark.parametrize("measure", [dist_n, repeated_ngram_rate])
@pytest.mark.parametrize("n", [0, 1.5, "2"])
def test_ngrams_of_no_count_of_words_are_refused(measure, n):
    with pytest.raises(InputError, match=f"n must be a whole number of at least 1; got {n!r}"):
        measure(["a"], n)


def test_perplexity_is_pooled_over_tokens_not_over_texts():
    assert perplexity([math.log(2) * 3, math.log(8)], [3, 1]) == pytest.approx(2**1.5)
    assert math.isnan(perplexity([], []))
    assert math.isnan(perplexity([0.0], [0]))
    assert perplexity([1e6], [1]) == math.inf


@given(st.floats(1.01, 1e6), st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any))
def test_the_perplexity_of_equal_losses_is_their_own_whatever_the_lengths(size, lengths):
    assert perplexity([n * math.log(size) for n in lengths], lengths) == pytest.approx(size)


def test_perplexity_needs_as_many_losses_as_lengths():
    with pytest.raises(InputError, match="got 1 and 2"):
        perplexity([1.0], [1, 2])
