"""Measures as text: cells of tables, and the csv files with every measure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pplm.comparison.bootstrap import Interval
from pplm.comparison.measures import MEASURES, MeasuredText, MethodRow
from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.files.tables import markdown_table, write_csv

NO_MEANING = "\N{EN DASH}"
"""Stands in a table where a method has no meaning for an attribute."""


def shown(name: str, value: float, bounds: Interval | None = None) -> str:
    """Return a measure as text with its interval in brackets; "" for NaN."""
    if math.isnan(value):
        return ""
    if MEASURES[name].share:
        text, ends = f"{value:.2%}", "" if bounds is None else " to ".join(f"{100 * end:.2f}" for end in bounds)
    else:
        digits = {"perplexity": 1, "seconds_per_token": 4, "readings_per_token": 1}.get(name, 3)
        # z: no sign before a zero, which rounding errors make negative
        text = f"{value:z.{digits}f}"
        ends = "" if bounds is None else " to ".join(f"{end:z.{digits}f}" for end in bounds)
    return text if bounds is None or any(map(math.isnan, bounds)) else f"{text} ({ends})"


def shown_with(row: MethodRow, names: Sequence[str]) -> list[str]:
    """Return these measures of a row as text, each with its interval in brackets."""
    return [shown(name, row.values[name], row.intervals.get(name)) for name in names]


def table_paragraph(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(markdown_table(head, rows))


def settings_paragraphs(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return a report's last section: its settings in full, as JSON."""
    return "## Settings", f"```json\n{json.dumps(settings, indent=1, ensure_ascii=False)}\n```"


def known_measures(rows: Sequence[MethodRow]) -> list[str]:
    """Return the measures that any row has, in their order; perplexity always, so that its absence is visible."""
    return [name for name in MEASURES if name == "perplexity" or any(not math.isnan(row.values[name]) for row in rows)]


def write_metrics(path: Path, rows: Sequence[MethodRow]) -> None:
    """Write one line per method and attribute ("all" for all together), with intervals."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {"method": row.method, "attribute": row.attribute or "all", "texts": row.texts}
        for name, value in row.values.items():
            line[name] = value
            if name in row.intervals:
                line[f"{name}_low"], line[f"{name}_high"] = row.intervals[name]
        lines.append(line)
    write_csv(path, lines)


def write_texts(path: Path, texts: Sequence[MeasuredText]) -> None:
    """Write one line per chosen text, with its own measures."""
    lines = []
    for text in texts:
        sample = text.chosen.sample
        line: dict[str, Any] = {"method": text.chosen.method, "attribute": text.chosen.attribute}
        line |= {"prompt_index": sample.prompt_index, "pool": sample.pool, "candidate": sample.sample}
        line |= {"prompt": sample.prompt, "text": sample.text, "tokens": sample.tokens}
        for name, (above, below) in text.fractions.items():
            line[name] = (math.exp(above / below) if name == "perplexity" else above / below) if below else None
        lines.append(line)
    write_csv(path, lines)


def write_report(folder: Path, text: str) -> None:
    """Write report.md.

    Raises
    ------
    InputError
        If the file cannot be written.

    """
    path = folder / "report.md"
    try:
        with atomic_file(path) as new:
            new.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
