"""Tables as text: Markdown for people, csv for programs."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.files.atomic import atomic_file

_WIDEST = 40
"""Columns are not padded beyond this many characters; longer cells stick out."""


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table whose columns line up; line breaks in cells become spaces."""
    lines = (head, ["---"] * len(head), *rows)
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(*cells, strict=True)]
    return [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that all have the same columns; None and numbers that are not finite become empty fields.

    Raises
    ------
    InputError
        If the file cannot be written.

    """
    try:
        with atomic_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error


def _field(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
