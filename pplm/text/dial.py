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
from pplm.control import Controller, Gains
from pplm.interface import WeightedAttribute
from pplm.text.aims import Aim, wanted_levels
from pplm.text.distributions import affordable_scale, fuse, kl_from_log_probs
from pplm.text.objective import TextSoFar
from pplm.text.sampling import is_distribution

_STRIDE = Gains(proportional=0.0, integral=0.4, low=-1.5, high=1.5)
_SHARE = 0.65
"""Steps are made so long that the budget allows about this share of the largest weight. Much less, and a step went far
beyond what its gradient is good for; all of it, and some of the budget may be left."""
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
        (A, B): of the attributes in the text so far; None where they are not measured.

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

    push = None
    """A factor on the steps, (B,); None is 1."""

    def __init__(self, gm_scale: float) -> None:
        self._gm_scale = gm_scale

    def look(self, text: TextSoFar) -> Tensor | None:  # noqa: ARG002
        """Return the attribute models that are content with a text, (A, B) bool; None where none can be."""
        return None

    def fuse(self, text: TextSoFar, steered_logits: Tensor, moved: Tensor) -> Fused:  # noqa: ARG002
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
        self._stride = Controller(_STRIDE, torch.zeros(len(like), device=like.device))
        wanted = wanted_levels(steering.target, attributes)
        self._aims = [Aim(attribute, level, like) for attribute, level in zip(attributes, wanted, strict=True)]
        self._pushing = [aim for aim in self._aims if aim.attribute.weight]
        self._held = any(not aim.free for aim in self._pushing)
        self._free = any(aim.free for aim in self._pushing)

    @property
    def push(self) -> Tensor:
        """A factor on the steps, (B,)."""
        return self._stride.push.exp()

    def look(self, text: TextSoFar) -> Tensor | None:
        """Return the attribute models that are content with the text as it is, (A, B) bool; None where none can be."""
        step = text.unsteered_step()
        idle = []
        for aim in self._aims:
            if self._held or not aim.of_token:
                level = aim.measure(step)
                if not aim.of_token:
                    aim.observe(level)
                idle.append(aim.content(level) if aim.attribute.weight else torch.ones_like(level, dtype=torch.bool))
        return torch.stack(idle) if self._held else None

    def fuse(self, text: TextSoFar, steered_logits: Tensor, moved: Tensor) -> Fused:
        """Return the distribution of the next token, given its steered logits (B, V).

        `moved` (B,) bool names the samples whose history was moved before this token: the others show nothing of how
        long a step should be.
        """
        unsteered, log_r = text.reader.unsteered.logits, text.reader.unsteered_log_probs
        whole = torch.full_like(unsteered[:, 0], self._budget)
        most = affordable_scale(log_r, steered_logits, whole, self._limit)
        if self._free:
            scale = most
        else:
            scale = torch.zeros_like(most)
            for aim in self._pushing:
                own = affordable_scale(log_r, steered_logits, whole * aim.share, self._limit)
                own = self._least(aim, text, steered_logits, own) if aim.of_token else own
                scale = torch.maximum(scale, own)
        self._stride.update(torch.where(moved, most / self._limit - _SHARE, torch.nan))
        # What is no distribution is to be refused, not weighed with 0.
        scale = torch.where(is_distribution(steered_logits), scale, torch.nan)
        logits = fuse(unsteered, steered_logits, scale)
        for aim in self._aims:
            if aim.of_token:
                aim.observe(aim.measure(text.unsteered_step(logits)))
        levels = torch.stack([aim.level for aim in self._aims])
        return Fused(logits, _divergence(text, logits), scale, levels)

    def select(self, index: Tensor) -> None:
        """Go on with the samples in `index` alone."""
        self._stride.select(index)
        for aim in self._aims:
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
