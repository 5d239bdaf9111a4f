"""Which steps are taken before a token, and which positions of the history each of them moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from pplm.checks import check_range
from pplm.config import SteeringConfig
from pplm.interface import WeightedAttribute
from pplm.presets import kind_of
from pplm.step import Step


@dataclass(frozen=True)
class StepPlan:
    """The steps of a text.

    Attributes
    ----------
    steps
        One for each of A attribute models; None if a single step lowers the weighted sum of their losses.
    windows
        One for each step: how many of the most recent positions it moves; 0 means all.
    decay
        Whether older positions of a window are moved less.

    """

    steps: tuple[Step, ...] | None
    windows: tuple[int, ...]
    decay: bool

    @classmethod
    def of(cls, steering: SteeringConfig, attributes: Sequence[WeightedAttribute]) -> StepPlan:
        """Return the plan for these attribute models; a step of a model's own is multiplied by the model's weight.

        Raises
        ------
        InputError
            If that product is too large for float32.

        """
        if not (steering.steps or steering.dialled):
            return cls(None, (steering.window_length,), steering.decay)
        own = [steering.step_of(kind_of(attribute.model)) for attribute in attributes]
        sizes = [step.step_size * item.weight for step, item in zip(own, attributes, strict=True)]
        for step, item, size in zip(own, attributes, sizes, strict=True):
            check_range(f"step_size ({step.step_size:g}) times the weight of {item.name!r} ({item.weight:g})", size, 0)
        steps = [replace(step, step_size=size) for step, size in zip(own, sizes, strict=True)]
        return cls(tuple(steps), tuple(step.window_length for step in own), steering.decay)

    def still(self) -> tuple[Step, ...] | None:
        """Return the same steps with length 0, for the gradients alone."""
        return None if self.steps is None else tuple(replace(step, step_size=0.0) for step in self.steps)

    def start(self, length: int) -> int:
        """Return the first of `length` positions that any step moves."""
        return 0 if 0 in self.windows else max(0, length - max(self.windows))

    def weights(self, lengths: Tensor, length: int) -> Tensor | list[Tensor | None] | None:
        """Return how much each step moves the positions from `start` on; see `window_weights`.

        Parameters
        ----------
        lengths
            (B,): how many real (not padding) positions each sample's history has.
        length
            How many positions the histories have, padding included.

        """
        moved = range(self.start(length), length)
        found = [window_weights(lengths, moved, window, decay=self.decay) for window in self.windows]
        return found[0] if self.steps is None else found


def window_weights(lengths: Tensor, moved: range, window_length: int, *, decay: bool) -> Tensor | None:
    """Return the gradient weights of the positions that steering moves; the most recent has weight 1.

    Parameters
    ----------
    lengths
        (B,): how many real (not padding) positions each sample's history has.
    moved
        The range of positions of the histories that are moved at all, up to the last, padding included.
    window_length
        How many of these, the most recent ones, have a weight above 0; 0 means all.
    decay
        Whether older positions weigh less: 1/w, 2/w, ... 1 across a window of w positions.

    Returns
    -------
    Tensor or None
        (B, 1, W, 1) or (1, 1, W, 1), W being the length of `moved`; None if all weights are 1 for every sample. A
        sample whose history is no longer than the window has weight 1 throughout the window.

    """
    if window_length == 0 or moved.stop <= window_length:
        return None
    older = len(moved) - window_length
    if not decay and older <= 0:
        return None
    weights = torch.ones(1, window_length, device=lengths.device)
    if decay:
        ramp = torch.arange(1, window_length + 1, device=lengths.device) / window_length
        weights = torch.where((lengths > window_length)[:, None], ramp, 1.0)
    return pad(weights, (older, 0))[:, None, :, None]
