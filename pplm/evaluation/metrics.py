"""Word counts over texts: variety, repetition, and the share of given words.

All take several texts and pool their counts, as the paper's Dist-n does over all samples of one topic.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from pplm.errors import InputError

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Return a text's words in order, lower-case, without punctuation."""
    return _WORD.findall(text.lower())


def word_share(texts: Iterable[str], words: Collection[str]) -> float:
    """Return which share of all words is among `words` (lower-case); NaN where there are no words."""
    wanted = set(words)
    hits = [word in wanted for text in texts for word in words_of(text)]
    return sum(hits) / len(hits) if hits else float("nan")


def repeat_rate(texts: Iterable[str]) -> float:
    """Return which share of words (after a text's first) equals the word just before; NaN where there are none."""
    repeats = [a == b for text in texts for a, b in _ngrams(words_of(text), 2)]
    return sum(repeats) / len(repeats) if repeats else float("nan")


def dist_n(texts: Iterable[str], n: int) -> float:
    """Return distinct n-grams over all n-grams, pooled over the texts (Li et al. 2016); NaN where there are none.

    Tokens are separated by white space, as in the paper's evaluation; n-grams do not cross texts.
    """
    if n < 1:
        raise InputError(f"n must be at least 1; got {n}")
    grams = [gram for text in texts for gram in _ngrams(text.split(), n)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def _ngrams(items: list[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(items[start:] for start in range(n)), strict=False)
