"""Steering as control: a push that is corrected by its own effect, with one controller per sample.

The plant is a text or a wave in the making, its level the quantity to be held, and the push how hard it is steered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Gains:
    """How a controller answers an error.

    Attributes
    ----------
    proportional
        K_p (>= 0): push per unit of change of the error.
    integral
        K_i (>= 0): push per unit of error and time step.
    low, high
        The bounds of the push; low is below high.

    Raises
    ------
    InputError
        If a gain is negative or not finite, or the bounds are not finite with low below high.

    """

    proportional: float
    integral: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("proportional", "integral"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a finite number of at least 0; got {getattr(self, name)}")
        if not -math.inf < self.low < self.high < math.inf:
            raise InputError(f"low must be below high, both finite; got {self.low} and {self.high}")


class Controller:
    """A proportional-integral controller for B samples, in its velocity form.

        u_t = clip(u_{t-1} + K_p (e_t - e_{t-1}) + K_i e_t, low, high),    e_0 = 0

    The push itself holds the memory of all errors and never leaves its bounds, so nothing can wind up: once the error
    changes its sign, the push leaves its bound at the next step.

    Parameters
    ----------
    gains
        K_p, K_i and the bounds.
    push
        (B,): u_0, clipped to the bounds.

    """

    def __init__(self, gains: Gains, push: Tensor) -> None:
        self.gains, self.push = gains, push.clamp(gains.low, gains.high)
        self._error = torch.zeros_like(self.push)

    def update(self, error: Tensor) -> Tensor:
        """Return the push (B,) after an error (B,), wanted minus actual level; an error not finite leaves the push."""
        known = error.isfinite()
        error = torch.where(known, error, self._error)
        change = self.gains.proportional * (error - self._error) + self.gains.integral * error
        moved = (self.push + change).clamp(self.gains.low, self.gains.high)
        self.push, self._error = torch.where(known, moved, self.push), error
        return self.push

    def select(self, index: Tensor) -> None:
        """Go on with the samples in `index` alone."""
        self.push, self._error = self.push[index], self._error[index]
