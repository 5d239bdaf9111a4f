"""The comparison as a Markdown report that stands alone: tables, pictures, costs, texts, settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pplm.comparison.measures import COSTS, MEASURES, MeasuredText, MethodRow, main_measure
from pplm.comparison.methods import METHODS
from pplm.comparison.paper import ASKED, PAPER, PaperRow
from pplm.comparison.tables import NO_MEANING, known_measures, settings_paragraphs, shown, shown_with, table_paragraph

NOT_SELECTED = "Not selected: the first prompts, each with the next attribute."
_TEXTS_SHOWN = 5
_NOT_IN_MAIN_TABLE = ("dist_1", "dist_2", "dist_3", *COSTS)
_BY_ATTRIBUTE = ("held_out_texts", "right", "positive", "perplexity", "dist_3", "repeats")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The results that a comparison and a sweep have in common.

    Attributes
    ----------
    model
        The steered model's name.
    rows, texts
        The measures and the texts; the rows for all attributes together come first.
    judges
        Names of the judges.
    notes
        What a reader needs to interpret the numbers.
    settings, surroundings
        What the texts depend on; versions and devices.
    pictures
        File names and titles.

    """

    model: str
    rows: Sequence[MethodRow]
    texts: Sequence[MeasuredText]
    judges: Sequence[str]
    notes: Sequence[str]
    settings: Mapping[str, Any]
    surroundings: Mapping[str, Any]
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def together(self) -> list[MethodRow]:
        """The rows of all attributes together, one per method or setting."""
        return _of_all(self.rows)


@dataclass(frozen=True, kw_only=True)
class Comparison(Findings):
    """The results of `compare`.

    Attributes
    ----------
    paper
        The paper's table to show beside the numbers ("topics" or "sentiment"); None for none.
    candidates
        The rows of B and BC over every candidate, not only the first; empty if those were not measured.

    """

    paper: str | None = None
    candidates: Sequence[MethodRow] = ()

    @property
    def main(self) -> str | None:
        """The best measure of whether the attributes show."""
        return main_measure(self.rows)


def markdown(comparison: Comparison) -> str:
    """Return the report."""
    parts = [
        _head(comparison),
        _together(comparison),
        _relative(comparison.together, comparison.main),
        _by_attribute(comparison),
        _candidates(comparison),
        pictures(comparison),
        _cost(comparison),
        _texts(comparison),
    ]
    return joined(itertools.chain(*parts), comparison)


def joined(paragraphs: Iterable[str], found: Findings) -> str:
    """Return a report of these paragraphs, with the settings at its end."""
    return "\n\n".join([*paragraphs, *settings_paragraphs({**found.settings, **found.surroundings})]) + "\n"


def _head(comparison: Comparison) -> Iterator[str]:
    attributes = list(dict.fromkeys(text.chosen.attribute for text in comparison.texts))
    settings = comparison.settings
    kept_apart = "attribute" if settings["pools"] == 1 else "attribute in each pool"
    yield f"# {comparison.model}: {' / '.join(row.method for row in comparison.together)}"
    titles = " ".join(f"{row.method}: {METHODS[row.method].title}." for row in comparison.together)
    yield (
        f"{len(settings['prompts'])} prompts, {settings['new_tokens']} new tokens, {_pools(settings)}; attributes: "
        f"{', '.join(attributes)}. {titles}"
    )
    yield (
        "Words, repeats and dist-n are counted in completions alone. Dist-n pools the texts of each "
        f"{kept_apart} and is then averaged; more texts lower it. Brackets are 95% intervals "
        f"over prompts (bootstrap). {judged_by(comparison)}"
    )
    yield from notes(comparison)


def judged_by(found: Findings) -> str:
    """Return a report's sentence about its judges."""
    return f"Judges: {', '.join(found.judges)}." if found.judges else "There was no judge."


def notes(found: Findings) -> Iterator[str]:
    """Yield a report's notes as one list, if it has any."""
    if found.notes:
        yield "\n".join(f"- {note}" for note in found.notes)


def _pools(settings: Mapping[str, Any]) -> str:
    """Return in words how many texts the methods choose from."""
    samples, pools = settings["samples"], settings["pools"]
    if samples == 1:
        return f"{pools} text{'' if pools == 1 else 's'} per prompt"
    return f"{samples} candidates per prompt" + ("" if pools == 1 else f" in each of {pools} pools")


def main_table(comparison: Comparison) -> str:
    """Return the main table: one row per method, the paper's numbers beside it."""
    rows = comparison.together
    names = [name for name in known_measures(rows) if name not in _NOT_IN_MAIN_TABLE]
    paper = PAPER.get(comparison.paper or "", {})
    head = ["method", *(MEASURES[name].title for name in names), "dist-1/2/3"]
    if paper:
        head += [f"paper: {ASKED[comparison.paper or '']}", "paper: perplexity", "paper: dist-1/2/3"]
    lines = []
    for row in rows:
        line = [row.method, *shown_with(row, names), "/".join(_short(row.values[f"dist_{n}"]) for n in (1, 2, 3))]
        if paper:
            line += _published(paper.get(row.method))
        lines.append(line)
    return table_paragraph(head, lines)


def _published(row: PaperRow | None) -> list[str]:
    """Return the paper's numbers of a method as text; empty cells for a method that the paper lacks."""
    if row is None:
        return [""] * 3
    return [f"{row.attribute}%", f"{row.perplexity}", "/".join(map(_short, row.dist))]


def _together(comparison: Comparison) -> Iterator[str]:
    yield from ("## All attributes", main_table(comparison))
    if comparison.paper in PAPER:
        yield (
            "The paper's model is GPT-2 345M, its judges of the attribute are people and its judge of fluency is GPT: "
            "compare how the methods differ, not the numbers."
        )


def _relative(rows: Sequence[MethodRow], main: str | None) -> Iterator[str]:
    base = next((row for row in rows if row.method == "B"), None)
    names = [name for name in (main, "perplexity") if name is not None and any(name in row.relative for row in rows)]
    if base is None or len(rows) < 2:
        return
    lines = []
    for row in rows:
        if row.method != "B":
            line = [row.method]
            for name in names:
                times, bounds = row.relative.get(name, (math.nan, (math.nan, math.nan)))
                line.append("" if math.isnan(times) else f"{times:.2f} times{_bounds(bounds)}")
            lines.append([*line, _difference(row, base, "dist_3")])
    yield "Compared with B:"
    yield table_paragraph(["method", *(MEASURES[name].title for name in names), "dist-3"], lines)


def _difference(row: MethodRow, base: MethodRow, name: str) -> str:
    """Return how much larger a measure is than B's; empty for a method that has texts for only some attributes."""
    difference = row.values[name] - base.values[name]
    return "" if math.isnan(difference) or row.texts != base.texts else f"{difference:+.3f}"


def _by_attribute(comparison: Comparison) -> Iterator[str]:
    rows = [row for row in comparison.rows if row.attribute]
    if rows:
        wanted = [comparison.main, *_BY_ATTRIBUTE]
        yield "## Each attribute"
        yield _attribute_table(rows, [name for name in known_measures(rows) if name in wanted])


def _candidates(comparison: Comparison) -> Iterator[str]:
    """Yield the section on all candidates, without Dist-n, which more texts lower."""
    rows = _of_all(comparison.candidates)
    if not rows:
        return
    names = [name for name in known_measures(rows) if name not in _NOT_IN_MAIN_TABLE]
    yield "## All candidates"
    yield (
        "Every candidate, labelled B (unsteered) or BC (steered). These estimate the same numbers as B and BC above, "
        "from more texts."
    )
    yield table_paragraph(
        ["method", "texts", *(MEASURES[name].title for name in names)],
        ([row.method, str(row.texts), *shown_with(row, names)] for row in rows),
    )
    yield from _relative(rows, comparison.main)
    apart = [row for row in comparison.candidates if row.attribute]
    if apart:
        yield _attribute_table(apart, [name for name in names if name in (comparison.main, *_BY_ATTRIBUTE)])


def _attribute_table(rows: Sequence[MethodRow], names: Sequence[str]) -> str:
    """Return a table of these measures, one row for each attribute and method."""
    return table_paragraph(
        ["attribute", "method", *(MEASURES[name].title for name in names)],
        (
            [row.attribute, row.method, *(shown(name, row.values[name]) if row.texts else NO_MEANING for name in names)]
            for row in rows
        ),
    )


def _of_all(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """Return the rows of all attributes together, one per method."""
    return [row for row in rows if not row.attribute]


def pictures(found: Findings) -> Iterator[str]:
    """Yield a report's pictures."""
    yield from (f"![{title}]({name})" for name, title in found.pictures.items())


def _cost(comparison: Comparison) -> Iterator[str]:
    batch, processes = comparison.settings["batch_size"], comparison.surroundings["processes"]
    yield "## Cost"
    yield (
        f"Seconds for each token of a kept text, up to {batch} texts at once, {processes} "
        f"process{'' if processes == 1 else 'es'}; those of a reranked text include all its candidates."
    )
    yield (
        "Readings for each token of a kept text: rows that the model reads and gradients that flow back, counted "
        "alike; unsteered text takes one."
    )
    cells = ([row.method, *(shown(name, row.values[name]) for name in COSTS)] for row in comparison.together)
    yield table_paragraph(["method", "seconds per token", "readings per token"], cells)


def _texts(comparison: Comparison) -> Iterator[str]:
    yield from ("## Texts", NOT_SELECTED)
    attributes = {text.chosen.attribute for text in comparison.texts}
    for row in comparison.together:
        yield f"### {row.method}, {METHODS[row.method].title}"
        yield quoted(comparison, row.method, len(comparison.settings["prompts"]) * len(attributes))


def quoted(found: Findings, method: str, most: int) -> str:
    """Return a method's texts of the first prompts, not selected, each for the next attribute in turn."""
    own: dict[tuple[str, int], str] = {}
    for text in found.texts:
        if text.chosen.method == method and text.chosen.sample.pool == 0:
            own.setdefault((text.chosen.attribute, text.chosen.sample.prompt_index), text.chosen.sample.text)
    attributes = list(dict.fromkeys(attribute for attribute, _ in own))
    lines = []
    for number in range(min(_TEXTS_SHOWN, most)):
        later, prompt = divmod(number, len(found.settings["prompts"]))  # few prompts: again, with other attributes
        attribute = attributes[(prompt + later) % len(attributes)]
        lines += [f"> **{attribute}** {' '.join(own[attribute, prompt].split())}", ">"]
    return "\n".join(lines)


def _bounds(bounds: tuple[float, float]) -> str:
    return "" if any(map(math.isnan, bounds)) else f" ({bounds[0]:.2f} to {bounds[1]:.2f})"


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
