"""The same comparison with several seeds, put together: means over the folders of several `pplm evaluate` runs.

python scripts/seeds_table.py docs/evaluation/sentiment docs/evaluation/seeds/sentiment-*
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from pplm import InputError
from pplm.cli import run_command

_MEASURES: dict[str, tuple[str, Callable[[Sequence[float]], float], str]] = {
    "right": ("right", statistics.fmean, ".1%"),
    "vader": ("towards", statistics.fmean, ".3f"),
    "held_out_texts": ("texts with a held-out word", statistics.fmean, ".1%"),
    "held_out_share": ("held-out words", statistics.fmean, ".2%"),
    "perplexity": ("perplexity", statistics.geometric_mean, ".1f"),
    "repeats": ("immediate repeats", statistics.fmean, ".2%"),
    "dist_3": ("dist-3", statistics.fmean, ".3f"),
}
"""Title, mean and format by column of metrics.csv; perplexities are means of logarithms already."""
_CANDIDATES = {"B": "all unsteered candidates", "BC": "all steered candidates"}

Row = dict[str, str]


@click.command()
@click.argument("folders", nargs=-1, required=True)
def seeds_table(folders: tuple[str, ...]) -> None:
    """Print a Markdown table: mean over FOLDERS and, in brackets, the lowest and the highest, all attributes together.

    A method that not all folders have is named and left out.
    """
    runs = [_rows(Path(folder)) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if _measured(run) != _measured(runs[0]):
            raise InputError(f"{folder} and {folders[0]} measure different things; name runs of the same attributes")
    if partial := sorted({name for run in runs for name in run if not all(name in other for other in runs)}):
        click.echo(f"left out, not in all folders: {', '.join(partial)}", err=True)
    found = {
        (name, key): values
        for name in runs[0]
        for key in _MEASURES
        if all(values := [run.get(name, {}).get(key, "") for run in runs])
    }
    shown = [key for key in _MEASURES if any(measure == key for _, measure in found)]
    click.echo(_line(["", *(_MEASURES[key][0] for key in shown)]))
    click.echo(_line(["---"] * (len(shown) + 1)))
    for name in dict.fromkeys(name for name, _ in found):
        click.echo(_line([name, *(_cell(key, found.get((name, key), ())) for key in shown)]))


def _rows(folder: Path) -> dict[str, Row]:
    """Return the rows of all attributes together: the methods, and the candidates where they were measured."""
    if not (folder / "metrics.csv").is_file():
        raise InputError(f"{folder} has no metrics.csv; name the output folders of pplm evaluate")
    found = {row["method"]: row for row in _read(folder / "metrics.csv")}
    if (folder / "candidates.csv").is_file():
        # Pooled dist-n falls with the number of texts, so that of all candidates compares with nothing here.
        found |= {_CANDIDATES[row["method"]]: row | {"dist_3": ""} for row in _read(folder / "candidates.csv")}
    return found


def _measured(run: dict[str, Row]) -> set[str]:
    return {key for row in run.values() for key in _MEASURES if row.get(key)}


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not {"method", "attribute"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path} is no table of pplm evaluate: it has no columns method and attribute")
        return [row for row in reader if row["attribute"] == "all"]


def _cell(key: str, values: Sequence[str]) -> str:
    """Return mean, lowest and highest; nothing where a run has not measured it."""
    if not values:
        return ""
    _, mean, form = _MEASURES[key]
    numbers = [float(value) for value in values]
    middle, low, high = (f"{round(value, 9) + 0.0:{form}}" for value in (mean(numbers), min(numbers), max(numbers)))
    return f"{middle} ({low} to {high})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_command(seeds_table)
