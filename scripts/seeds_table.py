"""The same comparison with several seeds, put together: means over the folders of several `pplm evaluate` runs.

python scripts/seeds_table.py docs/evaluation/sentiment docs/evaluation/seeds/sentiment-*
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from pplm import InputError
from pplm.cli import run_command
from pplm.comparison.measures import MEASURES
from pplm.comparison.tables import markdown_table, shown

_SHOWN = ("held_out_texts", "held_out_share", "right", "vader", "perplexity", "dist_3", "repeats")
_CANDIDATES = {"B": "all unsteered candidates", "BC": "all steered candidates"}
Rows = Mapping[str, Mapping[str, float]]
"""Measures by method and by column of metrics.csv."""


@click.command()
@click.argument("folders", nargs=-1, required=True)
def seeds_table(folders: tuple[str, ...]) -> None:
    """Print a Markdown table: mean over FOLDERS and, in brackets, the lowest and the highest, all attributes together.

    A method that not all folders have is named and left out.
    """
    runs = [_rows(Path(folder)) for folder in folders]
    columns = [{name for row in run.values() for name in row} for run in runs]
    for folder, found in zip(folders, columns, strict=True):
        if found != columns[0]:
            raise InputError(f"{folder} and {folders[0]} measure different things; name runs of the same attributes")
    methods = [method for method in runs[0] if all(method in run for run in runs)]
    if partial := sorted({method for run in runs for method in run} - set(methods)):
        click.echo(f"left out, not in all folders: {', '.join(partial)}", err=True)
    names = [name for name in _SHOWN if name in columns[0]]
    rows = ([method, *(_cell(name, [run[method] for run in runs]) for name in names)] for method in methods)
    click.echo("\n".join(markdown_table(["", *(MEASURES[name].title for name in names)], rows)))


def _rows(folder: Path) -> Rows:
    """Return the rows of all attributes together: the methods, and the candidates where they were measured."""
    if not (folder / "metrics.csv").is_file():
        raise InputError(f"{folder} has no metrics.csv; name the output folders of pplm evaluate")
    rows = _read(folder / "metrics.csv")
    if (folder / "candidates.csv").is_file():
        for method, row in _read(folder / "candidates.csv").items():
            # Pooled dist-n falls with the number of texts, so that of all candidates compares with nothing here.
            rows[_CANDIDATES[method]] = {name: value for name, value in row.items() if name != "dist_3"}
    return rows


def _read(path: Path) -> dict[str, dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not {"method", "attribute"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path} is no table of pplm evaluate: it has no columns method and attribute")
        return {
            line["method"]: {name: float(line[name]) for name in _SHOWN if line.get(name)}
            for line in reader
            if line["attribute"] == "all"
        }


def _cell(name: str, rows: Sequence[Mapping[str, float]]) -> str:
    """Return mean, lowest and highest; nothing where a run has not measured it."""
    values = [row[name] for row in rows if name in row]
    if len(values) < len(rows):
        return ""
    # A perplexity is the exponential of a mean already.
    mean = statistics.geometric_mean(values) if name == "perplexity" else statistics.fmean(values)
    return shown(name, mean, (min(values), max(values)))


if __name__ == "__main__":
    run_command(seeds_table)
