"""Measures of each method's texts, with intervals over prompts; none is taken by an attribute model that steered.

Every measure but Dist-n is the ratio of two sums over texts (words on a list to all words, losses to tokens, texts to
texts), so that prompts can be redrawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pplm.comparison.attributes import Attribute, Sentiment
from pplm.comparison.bootstrap import Interval, PromptBootstrap
from pplm.comparison.methods import Chosen
from pplm.evaluation import Judge, JudgedText, PerplexityJudge, SentimentJudge, dist_n
from pplm.evaluation.scoring import TextScores, judge_all, score

Fraction = tuple[float, float]
"""A numerator and a denominator; (0, 0) where there is nothing to measure."""

NOTHING: Fraction = (0.0, 0.0)


@dataclass(frozen=True)
class Measure:
    """A column: its title, and whether it is shown as a share."""

    title: str
    share: bool = False


MEASURES: Mapping[str, Measure] = {
    "held_out_texts": Measure("texts with a held-out word", share=True),
    "held_out_share": Measure("held-out words", share=True),
    "bag_share": Measure("bag words", share=True),
    "right": Measure("VADER right", share=True),
    "positive": Measure("VADER positive", share=True),
    "vader": Measure("VADER towards the wanted side"),
    "head": Measure("held-out head"),
    "similarity": Measure("similarity"),
    "perplexity": Measure("perplexity"),
    "dist_1": Measure("dist-1"),
    "dist_2": Measure("dist-2"),
    "dist_3": Measure("dist-3"),
    "repeats": Measure("immediate repeats", share=True),
    "repeated_4grams": Measure("repeated 4-grams", share=True),
    "seconds_per_token": Measure("seconds per token kept"),
    "readings_per_token": Measure("readings per token kept"),
}
COSTS = ("seconds_per_token", "readings_per_token")
"""What a method costs; these have no interval."""
_DIST = {"dist_1": 1, "dist_2": 2, "dist_3": 3}
MAIN = ("held_out_share", "right", "head", "similarity", "bag_share")
"""How well the attribute shows. Best first. bag_share is last: steering optimises it directly."""


@dataclass(frozen=True)
class MeasuredText:
    """A chosen text, and its fraction for each measure."""

    chosen: Chosen
    fractions: Mapping[str, Fraction]


@dataclass(frozen=True)
class MethodRow:
    """The measures of a method's texts for one attribute, or for all ("").

    Attributes
    ----------
    values, intervals
        By measure; no interval for Dist-n and costs.
    relative
        By measure: its ratio to B's, and the interval of that ratio. Empty without B.

    """

    method: str
    attribute: str
    texts: int
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    relative: Mapping[str, tuple[float, Interval]] = field(default_factory=dict)


def measure_texts(
    chosen: Sequence[Chosen], wanted: Mapping[str, Attribute], judges: Sequence[Judge]
) -> list[MeasuredText]:
    """Let every judge read every different text once, and count words."""
    judged = [JudgedText(item.sample.text, prompt=item.sample.prompt, attribute=item.attribute) for item in chosen]
    columns: dict[str, list[float]] = {}
    for judge in judges:
        columns |= _judge_once(judge, judged)
    heads = _judge_heads(judged, wanted)
    measured = []
    for row, item in enumerate(chosen):
        lists = {"bag_share": wanted[item.attribute].bag_words, "held_out_share": wanted[item.attribute].held_out_words}
        words = {name: entries for name, entries in lists.items() if entries}
        counts = score([judged[row]], {}, words)
        values = {name: column[row] for name, column in columns.items()}
        own = _fractions(counts, values, wanted[item.attribute].sentiment) | {"head": _mean(heads[row])}
        own["seconds_per_token"] = (item.seconds, float(item.sample.tokens))
        known = item.readings is not None
        own["readings_per_token"] = (item.readings or 0.0, float(item.sample.tokens)) if known else NOTHING
        measured.append(MeasuredText(item, own))
    return measured


def measure_methods(texts: Sequence[MeasuredText], *, replicates: int = 2000) -> list[MethodRow]:
    """Return a row per method for all attributes together, then a row per method and attribute.

    A method without texts for an attribute gets a row of 0 texts for it; its row for all attributes is compared with
    B's texts for the others.
    """
    methods = list(dict.fromkeys(text.chosen.method for text in texts))
    attributes = list(dict.fromkeys(text.chosen.attribute for text in texts))
    prompts = 1 + max(text.chosen.sample.prompt_index for text in texts)
    bootstrap = PromptBootstrap(prompts, replicates=replicates)
    rows = []
    for attribute in ["", *(attributes if len(attributes) > 1 else [])]:
        of_attribute = [text for text in texts if attribute in ("", text.chosen.attribute)]
        base = [text for text in of_attribute if text.chosen.method == "B"]
        for method in methods:
            own = [text for text in of_attribute if text.chosen.method == method]
            shared = {text.chosen.attribute for text in own}
            rows.append(
                _row(method, attribute, own, [t for t in base if t.chosen.attribute in shared], prompts, bootstrap)
            )
    return rows


def expected_measure(wanted: Mapping[str, Attribute], judges: Sequence[Judge]) -> str | None:
    """Return what `main_measure` will return once there are texts; None if nothing measures all attributes."""
    columns = {column for judge in judges for column in judge.columns}
    known = [
        {
            "held_out_share": bool(attribute.held_out_words),
            "right": attribute.sentiment is not None and "vader" in columns,
            "head": attribute.head is not None,
            "similarity": "similarity" in columns,
            "bag_share": bool(attribute.bag_words),
        }
        for attribute in wanted.values()
    ]
    return next((name for name in MAIN if all(can[name] for can in known)), None)


def main_measure(rows: Sequence[MethodRow]) -> str | None:
    """Return the first of `MAIN` that every row with texts has; None if there is none."""
    known = [name for name in MAIN if all(not math.isnan(row.values[name]) for row in rows if row.texts)]
    return known[0] if known else None


def _judge_once(judge: Judge, texts: Sequence[JudgedText]) -> dict[str, list[float]]:
    """Return column -> one number per text; the judge reads no text twice."""
    if isinstance(judge, PerplexityJudge | SentimentJudge):  # they ignore the attribute
        texts = [JudgedText(text.text, prompt=text.prompt) for text in texts]
    different = list(dict.fromkeys(texts))
    judged = judge_all([judge], different)
    place = {text: row for row, text in enumerate(different)}
    return {name: [values[place[text]] for text in texts] for name, values in judged.items()}


def _judge_heads(texts: Sequence[JudgedText], wanted: Mapping[str, Attribute]) -> list[float]:
    """Return each text's probability of its own attribute by that attribute's held-out head; NaN without one."""
    result = [math.nan] * len(texts)
    for name, attribute in wanted.items():
        rows = [row for row, text in enumerate(texts) if text.attribute == name]
        if attribute.head is None or not rows:
            continue
        (column,) = _judge_once(attribute.head, [texts[row] for row in rows]).values()
        for row, value in zip(rows, column, strict=True):
            result[row] = value
    return result


def _fractions(counts: TextScores, judged: Mapping[str, float], sentiment: Sentiment | None) -> dict[str, Fraction]:
    """Return one text's fractions."""
    words = float(counts.words)
    held_out = _part(counts.word_shares.get("held_out_share", math.nan), words)
    found = {
        "held_out_share": held_out,
        "held_out_texts": (float(held_out[0] > 0), 1.0) if "held_out_share" in counts.word_shares else NOTHING,
        "bag_share": _part(counts.word_shares.get("bag_share", math.nan), words),
        "repeats": _part(counts.repeats, words - 1),
        "repeated_4grams": _part(counts.repeated_4grams, words - 3),
        "perplexity": (judged.get("nll", 0.0), judged.get("tokens", 0.0)),
        "similarity": _mean(judged.get("similarity", math.nan)),
        "vader": NOTHING,
        "positive": NOTHING,
        "right": NOTHING,
    }
    if sentiment is not None and "vader" in judged:
        towards = judged["vader"] if sentiment == "positive" else -judged["vader"]
        found["vader"] = _mean(towards)
        found["positive"] = (float(judged["vader"] > 0), 1.0)
        found["right"] = (float(towards > 0), 1.0)  # a text without a word (NaN) is not right either
    return found


def _part(share: float, whole: float) -> Fraction:
    return NOTHING if math.isnan(share) else (share * whole, whole)


def _mean(value: float) -> Fraction:
    return NOTHING if math.isnan(value) else (value, 1.0)


def _row(
    method: str,
    attribute: str,
    texts: Sequence[MeasuredText],
    base: Sequence[MeasuredText],
    prompts: int,
    bootstrap: PromptBootstrap,
) -> MethodRow:
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    relative: dict[str, tuple[float, Interval]] = {}
    for name in MEASURES:
        if name in _DIST:
            values[name] = _dist(texts, _DIST[name])
            continue
        sums, of_base = sums_by_prompt(texts, name, prompts), sums_by_prompt(base, name, prompts)
        values[name] = _shown(name, _ratio(sums))
        if name in COSTS:
            continue
        drawn = _shown_all(name, bootstrap.ratios(*sums))
        intervals[name] = bootstrap.interval(drawn)
        base_value = _shown(name, _ratio(of_base))
        if base_value and not math.isnan(base_value):
            with np.errstate(divide="ignore", invalid="ignore"):  # B's value may be 0 in a redrawing: infinite
                drawn = drawn / _shown_all(name, bootstrap.ratios(*of_base))
            relative[name] = (values[name] / base_value, bootstrap.interval(drawn))
    return MethodRow(method, attribute, len(texts), values, intervals, relative)


def sums_by_prompt(texts: Sequence[MeasuredText], name: str, prompts: int) -> tuple[list[float], list[float]]:
    """Return a measure's numerators and denominators summed by prompt, both (P,), for `PromptBootstrap.ratios`."""
    above, below = [0.0] * prompts, [0.0] * prompts
    for text in texts:
        numerator, denominator = text.fractions[name]
        above[text.chosen.sample.prompt_index] += numerator
        below[text.chosen.sample.prompt_index] += denominator
    return above, below


def _ratio(sums: tuple[Sequence[float], Sequence[float]]) -> float:
    above, below = math.fsum(sums[0]), math.fsum(sums[1])
    return above / below if below else math.nan


def _shown(name: str, value: float) -> float:
    """Return a mean loss as a perplexity, and everything else as it is."""
    return float(_shown_all(name, value))


def _shown_all(name: str, values: Any) -> Any:
    with np.errstate(over="ignore"):  # an impossible text's perplexity is infinite
        return np.exp(values) if name == "perplexity" else values


def _dist(texts: Sequence[MeasuredText], n: int) -> float:
    """Return the mean of Dist-n over attributes and pools, each attribute's texts of a pool taken together.

    The paper's numbers imply that it takes an attribute's texts together. More texts lower Dist-n; taken pool by pool,
    it does not fall with the number of pools.
    """
    together: dict[tuple[str, int], list[str]] = defaultdict(list)
    for text in texts:
        together[text.chosen.attribute, text.chosen.sample.pool].append(text.chosen.sample.completion)
    values = [dist_n(completions, n) for completions in together.values()]
    return math.fsum(values) / len(values) if values else math.nan
