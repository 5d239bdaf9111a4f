"""Numbers of several texts: variety, repetition, the share of given words, and perplexity from a judge's losses.

All take several texts and pool their counts, as the paper's Dist-n does over all samples of one topic (section 4).
Pass a list of one text for that text alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence

from pplm.checks import check_whole
from pplm.errors import InputError

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_DIST = (1, 2, 3)
"""The paper's Dist-1, Dist-2 and Dist-3."""


def words_of(text: str) -> list[str]:
    """Return a text's words in order, lower-case, without punctuation."""
    return _WORD.findall(text.lower())


def word_share(texts: Iterable[str], words: Collection[str]) -> float:
    """Return the share of all words that belong to an entry of `words`; NaN where there are no words.

    Case and punctuation are ignored. A phrase is found only as a whole: where "black hole" stands, both of its words
    count; "black" alone does not. A word of the text counts once, however many entries it belongs to.

    Raises
    ------
    InputError
        If one of `words` has neither a letter nor a digit, so that it could never be found.

    """
    entries = {entry: tuple(words_of(entry)) for entry in words}
    empty = next((entry for entry, parts in entries.items() if not parts), None)
    if empty is not None:
        raise InputError(f"words holds {empty!r}, which has no letter or digit; leave it out")
    wanted = set(entries.values())
    sizes = {len(parts) for parts in wanted}
    found = [hit for text in texts for hit in _found(words_of(text), wanted, sizes)]
    return sum(found) / len(found) if found else float("nan")


def repeat_rate(texts: Iterable[str]) -> float:
    """Return the share of words (after a text's first) that equal the word just before; NaN where there are none."""
    repeats = [a == b for text in texts for a, b in _ngrams(words_of(text), 2)]
    return sum(repeats) / len(repeats) if repeats else float("nan")


def repeated_ngram_rate(texts: Iterable[str], n: int = 4) -> float:
    """Return the share of all runs of n words that occurred before in the same text; NaN where there are none.

    Unlike `repeat_rate` it counts phrases and sentences that recur.
    """
    check_whole("n", n, 1)
    repeated = total = 0
    for text in texts:
        grams = list(_ngrams(words_of(text), n))
        repeated += len(grams) - len(set(grams))
        total += len(grams)
    return repeated / total if total else float("nan")


def dist_n(texts: Iterable[str], n: int) -> float:
    """Return distinct n-grams over all n-grams, pooled over the texts (Li et al. 2016); NaN where there are none.

    Tokens are separated by white space, as in the paper's evaluation; n-grams do not cross texts. The share falls
    with the amount of text: compare only pools of about the same size.
    """
    check_whole("n", n, 1)
    grams = [gram for text in texts for gram in _ngrams(text.split(), n)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def mean_dist(texts: Iterable[str]) -> float:
    """Return the mean of Dist-1, Dist-2 and Dist-3, pooled over the texts; NaN where there are no tokens.

    The paper drops the candidates for which it is low (section 3.4). A Dist-n for which all texts are too short is left
    out of the mean.
    """
    texts = list(texts)
    values = [value for value in (dist_n(texts, n) for n in _DIST) if not math.isnan(value)]
    return math.fsum(values) / len(values) if values else float("nan")


def perplexity(nlls: Sequence[float], tokens: Sequence[float]) -> float:
    """Return exp(sum of `nlls` / sum of `tokens`): every token counts the same, however long its text.

    Parameters
    ----------
    nlls
        Negative log-likelihood of each text in nats, as `PerplexityJudge` gives it.
    tokens
        The number of tokens that each sum runs over; 0 for a text without any.

    Returns
    -------
    At least 1 for a language model; NaN where there are no tokens; infinite where a text is impossible.

    Raises
    ------
    InputError
        If their lengths differ.

    """
    if len(nlls) != len(tokens):
        raise InputError(f"nlls and tokens must have one number per text each; got {len(nlls)} and {len(tokens)}")
    total = math.fsum(tokens)
    if not total:
        return float("nan")
    try:
        return math.exp(math.fsum(nlls) / total)
    except OverflowError:
        return float("inf")


def _found(words: Sequence[str], wanted: Collection[tuple[str, ...]], sizes: Iterable[int]) -> list[bool]:
    """Return for each word whether it belongs to one of the wanted words and phrases."""
    hits = [False] * len(words)
    for size in sizes:
        for start, gram in enumerate(_ngrams(words, size)):
            if gram in wanted:
                hits[start : start + size] = [True] * size
    return hits


def _ngrams(items: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(items[start:] for start in range(n)), strict=False)
