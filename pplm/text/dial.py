"""How the steered and the unsteered distribution become the one that a token is drawn from (paper, section 3.3).

A fixed weight of the geometric mean is the paper's. The dial chooses it for each text and token instead, so that the
outcome diverges from the unsteered distribution by no more than a budget, and, where a level of an attribute is asked
for, by no more than that takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.config import SteeringConfig
from pplm.interface import WeightedAttribute
from pplm.text.aims import Aim, wanted_levels
from pplm.text.distributions import affordable_scale, fuse, kl_from_log_probs
from pplm.text.objective import TextSoFar

_HALVINGS = 8
"""Of the interval in which the smallest weight that meets a level lies: to 0.4% of the largest."""


@dataclass(frozen=True)
class Fused:
    """One token's outcome.

    Attributes
    ----------
    logits
        (B, V): what tokens are drawn from.
    kl
        (B,): KL(final || unsteered), in nats.
    gm_scale
        (B,): the weight of the steered distribution.
    levels
        (A, B): of the text so far, of attributes with a target; NaN for the others.

    """

    logits: Tensor
    kl: Tensor
    gm_scale: Tensor
    levels: Tensor | None = None

    @classmethod
    def unsteered(cls, logits: Tensor) -> Fused:
        """Return what comes of no steering at all."""
        none = torch.zeros_like(logits[:, 0])
        return cls(logits, none, none)


class FixedFusion:
    """The geometric mean with one weight for all texts and tokens, `gm_scale`."""

    def __init__(self, gm_scale: float) -> None:
        self._gm_scale = gm_scale

    def look(self, text: TextSoFar) -> Tensor | None:  # noqa: ARG002
        """Return the attribute models that are content with a text, (A, B) bool; None where none can be."""
        return None

    def fuse(self, text: TextSoFar, steered_logits: Tensor) -> Fused:
        """Return the distribution of the next token, given its steered logits (B, V)."""
        logits = fuse(text.reader.unsteered.logits, steered_logits, self._gm_scale)
        return Fused(logits, _divergence(text, logits), torch.full_like(logits[:, 0], self._gm_scale))

    def select(self, index: Tensor) -> None:
        """Go on with the samples in `index` alone."""


class Dial:
    """The geometric mean with the largest weight that the budget allows, or the smallest that meets a target.

    What earlier tokens left in the steered history counts like what this one adds: where it exceeds the budget alone,
    the weight scales it back.

    Parameters
    ----------
    attributes, steering
        A attribute models, and the settings: the budget, the targets, and `gm_scale`, the largest weight.
    like
        (B, ...) on the device.

    """

    def __init__(self, attributes: Sequence[WeightedAttribute], steering: SteeringConfig, like: Tensor) -> None:
        self._budget, self._limit = steering.budget, steering.gm_scale
        wanted = wanted_levels(steering.target, attributes)
        self._aims = [
            None if level is None else Aim(attribute, level, like)
            for attribute, level in zip(attributes, wanted, strict=True)
        ]
        self._free = any(
            aim is None and attribute.weight for aim, attribute in zip(self._aims, attributes, strict=True)
        )

    def look(self, text: TextSoFar) -> Tensor | None:
        """Return the attribute models that are content with the text as it is, (A, B) bool; None where none can be."""
        if not any(self._aims):
            return None
        step = text.unsteered_step()
        idle = []
        for aim in self._aims:
            level = torch.zeros(len(step.logits), device=step.logits.device) if aim is None else aim.measure(step)
            if aim is not None and not aim.of_token:
                aim.observe(level)
            idle.append(level > 0 if aim is None else aim.content(level))  # 0 > 0: without a target, never content
        return torch.stack(idle)

    def fuse(self, text: TextSoFar, steered_logits: Tensor) -> Fused:
        """Return the distribution of the next token, given its steered logits (B, V)."""
        unsteered = text.reader.unsteered.logits
        own = [aim for aim in self._aims if aim is not None]
        shares = [aim.share for aim in own if not aim.of_token]
        whole = torch.full_like(unsteered[:, 0], self._budget, dtype=torch.float32)
        most = affordable_scale(unsteered, steered_logits, whole, self._limit)
        if self._free or not own:
            scale = most
        else:
            scale = torch.zeros_like(most)
            for share in shares:
                scale = torch.maximum(scale, affordable_scale(unsteered, steered_logits, whole * share, self._limit))
            for aim in own:
                if aim.of_token:
                    scale = torch.maximum(scale, self._least(aim, text, steered_logits, most))
        logits = fuse(unsteered, steered_logits, scale)
        for aim in own:
            if aim.of_token:
                aim.observe(aim.measure(text.unsteered_step(logits)))
        nothing = torch.full_like(scale, torch.nan)
        levels = torch.stack([nothing if aim is None else aim.level for aim in self._aims])
        return Fused(logits, _divergence(text, logits), scale, levels)

    def select(self, index: Tensor) -> None:
        """Go on with the samples in `index` alone."""
        for aim in self._aims:
            if aim is not None:
                aim.select(index)

    def _least(self, aim: Aim, text: TextSoFar, steered_logits: Tensor, most: Tensor) -> Tensor:
        """Return the smallest weight (B,) that meets a target now, at most `most` (B,)."""

        def content(scale: Tensor) -> Tensor:
            return aim.content(aim.measure(text.unsteered_step(fuse(unsteered, steered_logits, scale))))

        unsteered = text.reader.unsteered.logits
        low, high = torch.zeros_like(most), most
        already = content(low)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            enough = content(middle)
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        return torch.where(already, 0.0, high)


def fusion_of(attributes: Sequence[WeightedAttribute], steering: SteeringConfig, like: Tensor) -> FixedFusion | Dial:
    """Return what makes one distribution of two under these settings, for texts (B, ...) like `like`."""
    return Dial(attributes, steering, like) if steering.dialled else FixedFusion(steering.gm_scale)


def _divergence(text: TextSoFar, logits: Tensor) -> Tensor:
    """Return KL(final || unsteered) (B,)."""
    return kl_from_log_probs(logits.log_softmax(-1), text.reader.unsteered_log_probs).clamp(min=0)
