"""All measures of a group of texts, counted or judged; a single text is a group of one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pplm.evaluation.counts import dist_n, perplexity, repeat_rate, repeated_ngram_rate, word_share, words_of
from pplm.evaluation.judges import Judge, JudgedText

Judgements = Mapping[str, Sequence[float]]
"""A judge's column -> its number for each of N texts; NaN where the judge has none."""


@dataclass(frozen=True)
class TextScores:
    """The measures of a group of texts; counts are of completions alone. NaN where there is nothing to measure.

    Attributes
    ----------
    texts, words
        How many there are.
    dist_1, dist_2, dist_3
        Distinct n-grams over all n-grams, pooled (0 to 1); groups of different sizes cannot be compared.
    repeats
        Share of words that equal the word just before (0 to 1).
    repeated_4grams
        Share of 4-grams that occurred before in their text (0 to 1).
    word_shares
        List of words -> share of all words that are on it (0 to 1).
    perplexity
        Under the judge, pooled over tokens; NaN without a judge.
    means
        Column of any other judge -> mean over the texts that have a number.

    """

    texts: int
    words: int
    dist_1: float
    dist_2: float
    dist_3: float
    repeats: float
    repeated_4grams: float
    word_shares: Mapping[str, float]
    perplexity: float
    means: Mapping[str, float]


def judge_all(judges: Sequence[Judge], texts: Sequence[JudgedText]) -> dict[str, list[float]]:
    """Let every judge read every text: column -> one number per text."""
    columns: dict[str, list[float]] = {}
    for judge in judges:
        rows = judge.judge(texts)
        for number, name in enumerate(judge.columns):
            columns[name] = [row[number] for row in rows]
    return columns


def score(
    texts: Sequence[JudgedText],
    judgements: Judgements,
    words: Mapping[str, Collection[str]],
    *,
    rows: Sequence[int] | None = None,
) -> TextScores:
    """Return the measures of a group of texts.

    Parameters
    ----------
    texts
        N texts.
    judgements
        As `judge_all` returns them for these N texts.
    words
        Name -> word list.
    rows
        Which of the texts are the group; None takes all.

    """
    rows = range(len(texts)) if rows is None else rows
    found = [texts[row].completion for row in rows]
    judged = {name: [values[row] for row in rows] for name, values in judgements.items()}
    return TextScores(
        texts=len(found),
        words=sum(len(words_of(text)) for text in found),
        dist_1=dist_n(found, 1),
        dist_2=dist_n(found, 2),
        dist_3=dist_n(found, 3),
        repeats=repeat_rate(found),
        repeated_4grams=repeated_ngram_rate(found, 4),
        word_shares={name: word_share(found, entries) for name, entries in words.items()},
        perplexity=perplexity(judged.pop("nll", []), judged.pop("tokens", [])),
        means={name: _mean(values) for name, values in judged.items()},
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else float("nan")
