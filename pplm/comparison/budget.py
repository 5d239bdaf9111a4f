"""Which settings steer best? Those that show most of the attribute within a budget.

The budget limits the judge's perplexity, relative to that of the unsteered texts, and the rise of immediate repeats:
text that repeats itself is likely, so perplexity alone would choose it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pplm.errors import InputError

if TYPE_CHECKING:  # the command line reads the defaults below, and the measures import torch
    from pplm.comparison.measures import MethodRow

BASE = "B"


@dataclass(frozen=True)
class Budget:
    """What steering may cost.

    Attributes
    ----------
    perplexity
        Limit of the judge's perplexity, relative to unsteered texts (>= 1); ignored without a judge.
    repeats
        Limit of the rise in the share of words that repeat the one before (0 to 1).

    """

    perplexity: float = 1.25
    repeats: float = 0.01

    def __post_init__(self) -> None:
        """Check both against their ranges."""
        if not 1 <= self.perplexity < math.inf:
            raise InputError(f"budget must be at least 1, relative to the unsteered perplexity; got {self.perplexity}")
        if not 0 <= self.repeats <= 1:
            raise InputError(f"repeat_budget must be between 0 and 1; got {self.repeats}")

    def limit(self, cost: str, base: MethodRow) -> float:
        """Return the highest "perplexity" or "repeats" that is within the budget, given the unsteered row."""
        value = base.values[cost]
        return self.perplexity * value if cost == "perplexity" else value + self.repeats

    def holds(self, row: MethodRow, base: MethodRow) -> bool:
        """Return whether a setting's row is within the budget, given the unsteered row."""
        limits = {cost: self.limit(cost, base) for cost in ("perplexity", "repeats")}
        return all(math.isnan(limit) or row.values[cost] <= limit for cost, limit in limits.items())


@dataclass(frozen=True)
class Best:
    """The best setting for one attribute, or for all (""); `row` is None where no setting qualifies."""

    attribute: str
    row: MethodRow | None
    base: MethodRow


def best_settings(rows: Sequence[MethodRow], main: str, budget: Budget) -> list[Best]:
    """Return the setting with the highest `main` measure within the budget, for all attributes and for each.

    Settings that do not beat unsteered text are excluded.
    """
    found = []
    for attribute in dict.fromkeys(row.attribute for row in rows):
        own = {row.method: row for row in rows if row.attribute == attribute}
        base = own.pop(BASE)
        within = [row for row in own.values() if budget.holds(row, base) and row.values[main] > base.values[main]]
        found.append(Best(attribute, max(within, key=lambda row: row.values[main], default=None), base))
    return found


def frontier(rows: Sequence[MethodRow], main: str, cost: str) -> list[MethodRow]:
    """Return the rows that no other row beats in both measure (higher is better) and cost, cheapest first."""
    kept: list[MethodRow] = []
    for row in sorted(rows, key=lambda row: (row.values[cost], -row.values[main])):
        if not kept or row.values[main] > kept[-1].values[main]:
            kept.append(row)
    return kept
