"""Draw the pictures of comparisons, sweeps and method frontiers again from their metrics.csv, without a model.

python scripts/redraw_pictures.py docs/evaluation/*/
"""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
from methods_frontier import draw_frontier

from pplm.cli import run_command
from pplm.comparison.budget import Budget
from pplm.comparison.measures import MEASURES, MethodRow, main_measure
from pplm.comparison.pictures import plot_attributes, plot_methods
from pplm.comparison.sweep_report import plot_frontier
from pplm.errors import InputError


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def redraw_pictures(folders: tuple[Path, ...]) -> None:
    """Draw each folder's pictures again; print their paths."""
    for folder in folders:
        for path in _redrawn(folder):
            click.echo(path)


def _redrawn(folder: Path) -> list[Path]:
    rows = read_metrics(folder / "metrics.csv")
    together, apart = ([row for row in rows if bool(row.attribute) is one] for one in (False, True))
    main = main_measure(rows)
    if main is None:
        raise InputError(f"{folder / 'metrics.csv'} has no measure of the attributes, so there is nothing to draw")
    if (folder / "frontier.md").is_file():
        methods = list(dict.fromkeys(row.method.split()[0] for row in together))[1:]
        draw_frontier(together, "right" if main == "right" else "held_out_texts", methods, folder / "frontier.png")
        return [folder / "frontier.png"]
    if (folder / "frontier.png").is_file():
        costs = [name for name in ("perplexity", "repeats") if not math.isnan(together[0].values[name])]
        found = SimpleNamespace(together=together, main=main, budget=_budget(folder / "report.md"), costs=costs)
        plot_frontier(cast(Any, found), folder / "frontier.png")
        return [folder / "frontier.png"]
    plot_methods(together, main, folder / "methods.png")
    if not apart:  # a comparison of one attribute
        return [folder / "methods.png"]
    plot_attributes(apart, main, folder / "attributes.png")
    return [folder / "methods.png", folder / "attributes.png"]


def read_metrics(path: Path) -> list[MethodRow]:
    """Return the rows that `pplm evaluate` and `pplm sweep` write into metrics.csv."""
    if not path.is_file():
        raise InputError(f"{path} is missing; give the output folder of pplm evaluate or pplm sweep")
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> MethodRow:
    def number(name: str) -> float:
        return float(line.get(name) or math.nan)

    values = {name: number(name) for name in MEASURES}
    intervals = {name: (number(f"{name}_low"), number(f"{name}_high")) for name in values if f"{name}_low" in line}
    attribute = "" if line["attribute"] == "all" else line["attribute"]
    return MethodRow(line["method"], attribute, int(line["texts"]), values, intervals)


def _budget(report: Path) -> Budget:
    """Return the budget that a sweep's report states."""
    text = report.read_text(encoding="utf-8")
    perplexity = re.search(r"perplexity at most ([\d.]+) times", text)
    repeats = re.search(r"immediate repeats at most ([\d.]+)%", text)
    if not repeats:
        raise InputError(f"{report} states no budget; give the output folder of pplm sweep")
    return Budget(float(perplexity[1]) if perplexity else Budget.perplexity, float(repeats[1]) / 100)


if __name__ == "__main__":
    run_command(redraw_pictures)
