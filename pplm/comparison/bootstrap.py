"""How sure is a number? Intervals by drawing the prompts again and again (Efron 1979).

Texts of one prompt are alike, so prompts are drawn, not texts. Distinct n-grams get no interval: a prompt that is drawn
twice repeats its n-grams, which lowers them for no reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]
LEVEL = 0.95
"""Share of the redrawn values that an interval holds."""


class PromptBootstrap:
    """R ways of drawing P prompts with replacement, the same for every number, so that numbers can be compared."""

    def __init__(self, prompts: int, *, replicates: int = 2000, seed: int = 0) -> None:
        """Draw `replicates` times from `prompts` prompts."""
        chances = np.full(prompts, 1 / prompts)
        self._counts = np.random.default_rng(seed).multinomial(prompts, chances, size=replicates)  # (R, P)

    def ratios(self, numerators: Sequence[float], denominators: Sequence[float]) -> np.ndarray:
        """Return sum of numerators over sum of denominators, both one a prompt, for each redrawing: (R,).

        NaN where a redrawing has nothing to divide by.
        """
        above = self._counts @ np.asarray(numerators, dtype=float)
        below = self._counts @ np.asarray(denominators, dtype=float)
        return np.divide(above, below, out=np.full(len(above), np.nan), where=below != 0)


def interval(values: np.ndarray) -> Interval:
    """Return the bounds that hold the middle 95% of redrawn values (R,); NaN where there are none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail], method="nearest")  # no mean of values, some may be infinite
    return float(low), float(high)
