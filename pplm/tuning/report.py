"""What tuning found, as a table and sentences."""

from __future__ import annotations

import math

from pplm.comparison.bootstrap import Interval
from pplm.files.tables import markdown_table
from pplm.tuning.result import Tuned, TunedRow


def tuning_report(tuned: Tuned) -> str:
    """Return a Markdown table of all that was tried, and the reasons for the choice."""
    names = list(tuned.rows[0].levels)
    judged = any(not math.isnan(row.perplexity) for row in tuned.rows)
    levels = [f"level of {name}" for name in names]
    head = ["candidate", "texts", *levels, "against the best", "KL per token", "repeats"]
    head += ["perplexity"] * judged + ["seconds per token", "outcome"]
    lines = markdown_table(head, [_cells(row, names, judged=judged) for row in tuned.rows])
    chosen = ", ".join(f"{name} {value:g}" for name, value in tuned.settings.items())
    return "\n".join([*lines, "", *tuned.reasons, f"Chosen for {tuned.kind}: {chosen} ({tuned.seconds / 60:.1f} min)."])


def _cells(row: TunedRow, names: list[str], *, judged: bool) -> list[str]:
    levels = [_with_interval(*row.levels[name]) for name in names]
    against = "" if row.against is None else _with_interval(*row.against)
    cells = [row.name, str(row.texts), *levels, against, f"{row.final_kl:.3f}", f"{row.repeats:.2%}"]
    return cells + [f"{row.perplexity:.1f}"] * judged + [f"{row.seconds_per_token:.2g}", row.outcome]


def _with_interval(value: float, interval: Interval) -> str:
    return f"{value:.3g} ({interval[0]:.3g} to {interval[1]:.3g})"
