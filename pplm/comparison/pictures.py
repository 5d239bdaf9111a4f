"""The comparison's pictures; they need matplotlib, the optional extra `plot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pplm.comparison.measures import MEASURES, MethodRow
from pplm.comparison.methods import METHODS
from pplm.errors import InputError
from pplm.files.figures import new_figure, save_figure

COLOURS = {
    "B": "0.55", "BR": "#56b4e9", "BC": "#d55e00", "BCR": "#0072b2",
    "WD": "#009e73", "FUDGE": "#cc79a7", "CAA": "#e69f00", "PROMPT": "0.2",
}  # fmt: skip
"""Grey is unsteered, dark grey a mere prompt; colour-blind readers can tell the colours apart."""
INTERVALS = "lines through points and bars: 95% intervals over prompts"


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    try:
        new_figure()
    except InputError:
        return False
    return True


def plot_methods(rows: Sequence[MethodRow], main: str, path: Path) -> str:
    """Draw the attribute against perplexity, one point per method; return the picture's title.

    Without a judge, immediate repeats stand in for perplexity. `rows` are one per method.
    """
    across = "perplexity" if any(not math.isnan(row.values["perplexity"]) for row in rows) else "repeats"
    figure = new_figure(figsize=(6.5, 4.5 + 0.2 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        x, y = axis_value(across, row.values[across]), axis_value(main, row.values[main])
        errors = [interval_ends(row, name) for name in (across, main)]
        axes.errorbar(
            x, y, xerr=errors[0], yerr=errors[1], fmt="o", markersize=8, color=COLOURS[row.method], capsize=3,
            linewidth=1, label=method_label(row.method),
        )  # fmt: skip
        axes.annotate(row.method, (x, y), xytext=(8, 8), textcoords="offset points")
    axes.set(xlabel=axis_title(across), ylabel=axis_title(main))
    axes.grid(visible=True, alpha=0.3)
    _legend(figure, axes)
    save_figure(figure, path)
    return f"{MEASURES[main].title} against {MEASURES[across].title}, with 95% intervals"


def plot_attributes(rows: Sequence[MethodRow], main: str, path: Path) -> str:
    """Draw the attribute's measure as bars, attribute by attribute; return the picture's title.

    `rows` are one per method and attribute.
    """
    attributes = list(dict.fromkeys(row.attribute for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = new_figure(figsize=(max(6, 1.4 * len(attributes)), 4 + 0.2 * len(methods)), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        own = {attributes.index(row.attribute): row for row in rows if row.method == method and row.texts}
        places = [place + (number - (len(methods) - 1) / 2) * width for place in own]
        heights = [axis_value(main, row.values[main]) for row in own.values()]
        errors = [interval_ends(row, main) for row in own.values()]
        bars = [[error[side][0] for error in errors] for side in (0, 1)]
        axes.bar(places, heights, width, color=COLOURS[method], label=method_label(method))
        axes.errorbar(places, heights, yerr=bars, fmt="none", ecolor="0.2", linewidth=1)
    axes.set_xticks(range(len(attributes)), attributes)
    axes.set_ylabel(axis_title(main))
    axes.grid(visible=True, axis="y", alpha=0.3)
    _legend(figure, axes)  # away from the error bars
    save_figure(figure, path)
    return f"{MEASURES[main].title} by attribute, with 95% intervals"


def method_label(method: str) -> str:
    """Return a method's short name with what it stands for."""
    return f"{method}: {METHODS[method].title.removeprefix(f'{method}, ')}"


def interval_ends(row: MethodRow, name: str) -> list[list[float]]:
    """Return the distances [[down], [up]] from a value to its interval's ends; 0 where there is none."""
    value, bounds = row.values[name], row.intervals.get(name, (math.nan, math.nan))
    if math.isnan(value) or any(map(math.isnan, bounds)):
        return [[0.0], [0.0]]
    return [[max(0.0, axis_value(name, value - bounds[0]))], [max(0.0, axis_value(name, bounds[1] - value))]]


def _legend(figure: Any, axes: Any) -> None:
    """Explain the methods and the intervals below a picture."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) < 45 else 1
    figure.legend(handles, labels, title=INTERVALS, title_fontsize="small", fontsize="small", frameon=False,
                  loc="outside lower center", ncols=columns)  # fmt: skip


def axis_value(name: str, value: float) -> float:
    """Return a measure as it stands on an axis: shares in percent."""
    return 100 * value if MEASURES[name].share else value


def axis_title(name: str) -> str:
    """Return a measure's title with its unit."""
    return f"{MEASURES[name].title} (%)" if MEASURES[name].share else MEASURES[name].title
