"""The comparison as a Markdown report that stands alone: tables, pictures, costs, texts, settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pplm.comparison.measures import MEASURES, MeasuredText, MethodRow, main_measure
from pplm.comparison.methods import METHODS
from pplm.comparison.paper import ASKED, PAPER
from pplm.comparison.tables import known_measures, settings_lines, shown
from pplm.files.tables import markdown_table

_TEXTS_SHOWN = 5
_NOT_IN_MAIN_TABLE = ("dist_1", "dist_2", "dist_3", "seconds_per_token")
_BY_ATTRIBUTE = ("held_out_texts", "right", "perplexity", "dist_3", "repeats")


@dataclass(frozen=True)
class Comparison:
    """Everything that a report tells.

    Attributes
    ----------
    model
        The steered model's name.
    rows, texts
        What was measured; the rows of all attributes together come first.
    judges
        Names of the judges.
    paper
        Which of the paper's tables this is ("topics" or "sentiment"); None for attributes of one's own.
    notes
        What a reader must know to read the numbers rightly.
    settings, surroundings
        What the texts depend on; versions and devices.
    pictures
        File names and titles.
    candidates
        The rows of B and BC over every candidate, not only the first; empty if those were not measured.

    """

    model: str
    rows: Sequence[MethodRow]
    texts: Sequence[MeasuredText]
    judges: Sequence[str]
    paper: str | None
    notes: Sequence[str]
    settings: Mapping[str, Any]
    surroundings: Mapping[str, Any]
    pictures: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[MethodRow] = ()

    @property
    def main(self) -> str | None:
        """The measure that says best whether the attributes show."""
        return main_measure(self.rows)

    @property
    def together(self) -> list[MethodRow]:
        """One row a method."""
        return _of_all(self.rows)


def markdown(comparison: Comparison) -> str:
    """Return the report."""
    parts = [
        _head(comparison),
        _together(comparison),
        _relative(comparison.together, comparison.main),
        _by_attribute(comparison),
        _candidates(comparison),
        _pictures(comparison),
        _cost(comparison),
        _texts(comparison),
        settings_lines({**comparison.settings, **comparison.surroundings}),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _head(comparison: Comparison) -> Iterator[str]:
    attributes = list(dict.fromkeys(text.chosen.attribute for text in comparison.texts))
    settings = comparison.settings
    kept_apart = "attribute" if settings["pools"] == 1 else "attribute in each pool"
    yield f"# {comparison.model}: {' / '.join(row.method for row in comparison.together)}"
    yield ""
    yield (
        f"{len(settings['prompts'])} prompts, {settings['new_tokens']} new tokens, {_pools(settings)}; attributes: "
        f"{', '.join(attributes)}. " + " ".join(f"{row.method}: {METHODS[row.method]}." for row in comparison.together)
    )
    yield ""
    yield (
        "Words, repeats and dist-n are counted in completions alone. Dist-n takes together the texts of each "
        f"{kept_apart}, and is then averaged; it falls with the number of texts. Brackets hold 95% of the values when "
        "prompts are redrawn (bootstrap). "
        + (f"Judges: {', '.join(comparison.judges)}." if comparison.judges else "There was no judge.")
    )
    yield ""
    for note in comparison.notes:
        yield f"- {note}"
    if comparison.notes:
        yield ""


def _pools(settings: Mapping[str, Any]) -> str:
    """Return how many texts the methods choose from."""
    samples, pools = settings["samples"], settings["pools"]
    if samples == 1:
        return f"{pools} text{'' if pools == 1 else 's'} a prompt"
    return f"{samples} candidates a prompt" + ("" if pools == 1 else f" in each of {pools} pools")


def all_attributes(comparison: Comparison) -> list[str]:
    """Return the lines of the main table: one row a method, the paper's numbers beside it."""
    rows = comparison.together
    names = [name for name in known_measures(rows) if name not in _NOT_IN_MAIN_TABLE]
    paper = PAPER.get(comparison.paper or "", {})
    head = ["method", *(MEASURES[name].title for name in names), "dist-1/2/3"]
    if paper:
        head += [f"paper: {ASKED[comparison.paper or '']}", "paper: perplexity", "paper: dist-1/2/3"]
    lines = []
    for row in rows:
        cells = [shown(name, row.values[name], row.intervals.get(name)) for name in names]
        line = [row.method, *cells, "/".join(_short(row.values[f"dist_{n}"]) for n in (1, 2, 3))]
        if paper:
            published = paper[row.method]
            line += [f"{published.attribute}%", f"{published.perplexity}", "/".join(map(_short, published.dist))]
        lines.append(line)
    return markdown_table(head, lines)


def _together(comparison: Comparison) -> Iterator[str]:
    yield "## All attributes"
    yield ""
    yield from all_attributes(comparison)
    yield ""
    if comparison.paper in PAPER:
        yield (
            "The paper's model is GPT-2 345M, its judges of the attribute are people and its judge of fluency is GPT: "
            "compare how the methods differ, not the numbers."
        )
        yield ""


def _relative(rows: Sequence[MethodRow], main: str | None) -> Iterator[str]:
    base = next((row for row in rows if row.method == "B"), None)
    names = [name for name in (main, "perplexity") if name is not None and any(name in row.relative for row in rows)]
    if base is None or len(rows) < 2:
        return
    yield "Compared with B:"
    yield ""
    lines = []
    for row in rows:
        if row.method != "B":
            line = [row.method]
            for name in names:
                times, bounds = row.relative.get(name, (math.nan, (math.nan, math.nan)))
                line.append("" if math.isnan(times) else f"{times:.2f} times{_bounds(bounds)}")
            lines.append([*line, f"{row.values['dist_3'] - base.values['dist_3']:+.3f}"])
    yield from markdown_table(["method", *(MEASURES[name].title for name in names), "dist-3"], lines)
    yield ""


def _by_attribute(comparison: Comparison) -> Iterator[str]:
    rows = [row for row in comparison.rows if row.attribute]
    if not rows:
        return
    wanted = [comparison.main, *_BY_ATTRIBUTE]
    yield "## Each attribute"
    yield ""
    yield from _attribute_table(rows, [name for name in known_measures(rows) if name in wanted])


def _candidates(comparison: Comparison) -> Iterator[str]:
    """Tell of all candidates, of which the first are few; Dist-n falls with their number, so only how it differs."""
    rows = _of_all(comparison.candidates)
    if not rows:
        return
    names = [name for name in known_measures(rows) if name not in _NOT_IN_MAIN_TABLE]
    yield "## All candidates"
    yield ""
    yield (
        "B: every unsteered candidate; BC: every steered one. The first is like any other, so these say the same as B "
        "and BC above, more surely."
    )
    yield ""
    yield from markdown_table(
        ["method", "texts", *(MEASURES[name].title for name in names)],
        (
            [row.method, str(row.texts), *(shown(name, row.values[name], row.intervals.get(name)) for name in names)]
            for row in rows
        ),
    )
    yield ""
    yield from _relative(rows, comparison.main)
    apart = [row for row in comparison.candidates if row.attribute]
    if apart:
        yield from _attribute_table(apart, [name for name in names if name in (comparison.main, *_BY_ATTRIBUTE)])


def _attribute_table(rows: Sequence[MethodRow], names: Sequence[str]) -> Iterator[str]:
    """Yield a table of these measures, one row for each attribute and method."""
    yield from markdown_table(
        ["attribute", "method", *(MEASURES[name].title for name in names)],
        ([row.attribute, row.method, *(shown(name, row.values[name]) for name in names)] for row in rows),
    )
    yield ""


def _of_all(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """Return the rows of all attributes together, one a method."""
    return [row for row in rows if not row.attribute]


def _pictures(comparison: Comparison) -> Iterator[str]:
    for name, title in comparison.pictures.items():
        yield f"![{title}]({name})"
        yield ""


def _cost(comparison: Comparison) -> Iterator[str]:
    yield "## Cost"
    yield ""
    batch, processes = comparison.settings["batch_size"], comparison.surroundings["processes"]
    yield (
        f"Seconds for each token of a kept text, up to {batch} texts at once, {processes} "
        f"process{'' if processes == 1 else 'es'}; those of a reranked text hold all its candidates."
    )
    yield ""
    cells = ([row.method, shown("seconds_per_token", row.values["seconds_per_token"])] for row in comparison.together)
    yield from markdown_table(["method", "seconds per token"], cells)
    yield ""


def _texts(comparison: Comparison) -> Iterator[str]:
    """Show the first prompts, going through the attributes, whatever came of them."""
    yield "## Texts"
    yield ""
    yield "Not selected: the first prompts, each with the next attribute."
    yield ""
    attributes = list(dict.fromkeys(text.chosen.attribute for text in comparison.texts))
    prompts = len(comparison.settings["prompts"])
    for row in comparison.together:
        yield f"### {row.method}, {METHODS[row.method]}"
        yield ""
        own = {
            (text.chosen.attribute, text.chosen.sample.prompt_index): text.chosen.sample
            for text in comparison.texts
            if text.chosen.method == row.method and text.chosen.sample.pool == 0
        }
        for number in range(min(_TEXTS_SHOWN, prompts * len(attributes))):
            later, prompt = divmod(number, prompts)  # with few prompts they come again with another attribute
            attribute = attributes[(prompt + later) % len(attributes)]
            sample = own[attribute, prompt]
            yield f"> **{attribute}** {' '.join(sample.text.split())}"
            yield ">"
        yield ""


def _bounds(bounds: tuple[float, float]) -> str:
    return "" if any(map(math.isnan, bounds)) else f" ({bounds[0]:.2f} to {bounds[1]:.2f})"


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
