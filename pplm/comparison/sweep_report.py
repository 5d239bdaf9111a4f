"""A sweep as a Markdown report, and its frontier as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pplm.comparison.budget import BASE, Best, Budget, best_settings, frontier
from pplm.comparison.measures import MEASURES, MethodRow
from pplm.comparison.pictures import INTERVALS, axis_title, axis_value, interval_ends
from pplm.comparison.report import NOT_SELECTED, Findings, joined, judged_by, notes, pictures, quoted
from pplm.comparison.tables import shown, shown_with, table_paragraph
from pplm.files.figures import new_figure, save_figure

_COSTS = ("perplexity", "repeats")


@dataclass(frozen=True, kw_only=True)
class Sweep(Findings):
    """The results of `sweep`; the first of `together` is the unsteered row.

    Attributes
    ----------
    main
        The measure by which settings are chosen.
    budget
        What steering may cost.

    """

    main: str
    budget: Budget

    @property
    def best(self) -> list[Best]:
        """The best setting for all attributes together, then for each attribute."""
        return best_settings(self.rows, self.main, self.budget)

    @property
    def costs(self) -> list[str]:
        """The costs that were measured."""
        return [name for name in _COSTS if not any(math.isnan(row.values[name]) for row in self.together)]


def best_table(sweep: Sweep) -> str:
    """Return the table of the best settings."""
    names = [sweep.main, *sweep.costs, "dist_3"]
    lines = []
    for best in sweep.best:
        name = best.attribute or "all"
        lines.append([name, "unsteered", *(shown(measure, best.base.values[measure]) for measure in names)])
        if best.row is None:
            lines.append([name, "none within the budget shows more", *("" for _ in names)])
        else:
            lines.append([name, best.row.method, *shown_with(best.row, names)])
    return table_paragraph(["attribute", "best settings", *(MEASURES[name].title for name in names)], lines)


def sweep_markdown(sweep: Sweep) -> str:
    """Return the report."""
    return joined([*_head(sweep), *_all(sweep), *_texts(sweep)], sweep)


def plot_frontier(sweep: Sweep, path: Path) -> None:
    """Draw the attribute against each cost, one point per setting and a line through the frontier.

    The frontier's settings are numbered, and named below. A setting that exceeds either limit is drawn as beyond the
    budget in both panels.
    """
    base, rows = sweep.together[0], sweep.together[1:]
    best = {cost: frontier(rows, sweep.main, cost) for cost in sweep.costs}
    named = [row.method for row in rows if any(row in own for own in best.values())]
    figure = new_figure(figsize=(5.5 * len(sweep.costs), 5 + 0.12 * len(named)), layout="constrained")
    for axes, cost in zip(figure.subplots(1, len(sweep.costs), squeeze=False)[0], sweep.costs, strict=True):
        for inside, colour, label in ((True, "#0072b2", "within the budget"), (False, "#d55e00", "beyond it")):
            own = [row for row in rows if sweep.budget.holds(row, base) is inside]
            axes.scatter(*_points(own, cost, sweep.main), color=colour, label=label, zorder=3)
        axes.scatter(*_points([base], cost, sweep.main), color="0.5", label="unsteered", zorder=3)
        for row in sweep.together:
            at = axis_value(cost, row.values[cost]), axis_value(sweep.main, row.values[sweep.main])
            ends = [interval_ends(row, name) for name in (cost, sweep.main)]
            axes.errorbar(*at, xerr=ends[0], yerr=ends[1], fmt="none", ecolor="0.75", linewidth=0.8, zorder=1)
        axes.plot(*_points(best[cost], cost, sweep.main), color="0.4", linewidth=1.2, zorder=2)
        limit = sweep.budget.limit(cost, base)
        axes.axvline(axis_value(cost, limit), color="0.4", linestyle=":", label="budget")
        for row in best[cost]:
            at = axis_value(cost, row.values[cost]), axis_value(sweep.main, row.values[sweep.main])
            axes.annotate(str(1 + named.index(row.method)), at, xytext=(5, 5), textcoords="offset points",
                          fontsize="medium", fontweight="bold")  # fmt: skip
        axes.set(xlabel=axis_title(cost), ylabel=axis_title(sweep.main))
        axes.grid(visible=True, alpha=0.3)
    numbers = "\n".join(f"{number}: {name}" for number, name in enumerate(named, 1))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False,
                  title=f"{numbers}\n{INTERVALS}", title_fontsize="small")  # fmt: skip
    save_figure(figure, path)


def _points(rows: Sequence[MethodRow], across: str, up: str) -> tuple[list[float], list[float]]:
    return [axis_value(across, row.values[across]) for row in rows], [axis_value(up, row.values[up]) for row in rows]


def _head(sweep: Sweep) -> Iterator[str]:
    budget = f"immediate repeats at most {sweep.budget.repeats:.2%} above those of unsteered texts"
    if "perplexity" in sweep.costs:
        budget = f"perplexity at most {sweep.budget.perplexity:g} times that of unsteered texts, and {budget}"
    texts = sweep.settings["samples"] * sweep.settings["pools"]
    yield f"# {sweep.model}: {len(sweep.together) - 1} settings"
    yield (
        f"{len(sweep.settings['prompts'])} prompts, {sweep.settings['new_tokens']} new tokens, "
        f"{texts} texts per prompt, attribute and setting. The best setting is the one with "
        f"the most {MEASURES[sweep.main].title} within the budget: {budget}. Brackets are 95% intervals over prompts "
        f"(bootstrap): where they overlap, another setting may be as good. {judged_by(sweep)}"
    )
    yield from notes(sweep)
    yield from ("## Best settings", best_table(sweep))
    yield from pictures(sweep)


def _all(sweep: Sweep) -> Iterator[str]:
    rows = sweep.together
    names = [sweep.main, *sweep.costs, "dist_3"]
    best = {cost: [row.method for row in frontier(rows[1:], sweep.main, cost)] for cost in sweep.costs}
    lines = []
    for row in rows:
        on = [MEASURES[cost].title for cost in sweep.costs if row.method in best[cost]]
        inside = "" if row.method == BASE else "yes" if sweep.budget.holds(row, rows[0]) else "no"
        name = "unsteered" if row.method == BASE else row.method
        lines.append([name, *shown_with(row, names), inside, ", ".join(on)])
    yield "## All settings, all attributes"
    yield "A setting is on the frontier if no other shows more of the attribute at less of that cost."
    yield table_paragraph(
        ["settings", *(MEASURES[name].title for name in names), "within the budget", "on the frontier of"], lines
    )


def _texts(sweep: Sweep) -> Iterator[str]:
    best = sweep.best[0].row
    if best is not None:
        yield from (f"## Texts of {best.method}", NOT_SELECTED)
        yield quoted(sweep, best.method, len(sweep.settings["prompts"]))
