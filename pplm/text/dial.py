"""How the steered and the unsteered distribution become the one that a token is drawn from (paper, section 3.3).

The paper mixes them in a geometric mean with a fixed weight. The dial instead chooses the weight for each text and
token, so that the outcome diverges from the unsteered distribution by no more than a budget and, if a level of an
attribute is asked for, by no more than reaching that level takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.config import SteeringConfig
from pplm.control import Controller, Gains
from pplm.interface import WeightedAttribute
from pplm.presets import MAX_DIVERGENCE, USUAL_STRENGTH, kind_of
from pplm.text.aims import Aim, wanted_levels
from pplm.text.distributions import Tilt, fuse, kl_from_log_probs
from pplm.text.objective import TextSoFar
from pplm.text.sampling import is_distribution

_STRIDE = Gains(proportional=0.0, integral=0.4, low=-2.5, high=2.5)
"""Controls the logarithm of the steps' length (`Dial.push`). Steps are made long enough for the largest weight to spend
a wanted share of the budget. The share is taken as a square root, which is nearly proportional to a step's length. So
most tokens get the largest weight, and the budget holds back only those that a step moves most."""
_SPENT, _OVERSPENT = 0.8, 2.0
"""The wanted share (a square root), and the largest that a single token's share counts as."""
_STRIDE_OF_BAGS = Gains(proportional=0.0, integral=0.4, low=-2.5, high=4.0)
_SPENT_BY_BAGS, _EXPONENT, _LARGEST_ERROR, _LEAST = 0.9, 0.3, 1.0, 1e-4
"""For steps that follow a gradient which comes and goes, as a bag's does. In order: the share that the longest step
should spend; a step `reach` times as long should spend that share times `reach` to this exponent; the largest error of
one token, either way; the least share whose logarithm is taken."""
_CREDIT = 9
"""How many tokens' worth of the wanted level a text may be ahead: a bag's words are cheap at few tokens, so they are
taken there."""
_HALVINGS = 8
"""How often the interval that holds the smallest weight meeting a level is halved: to 0.4% of the largest weight."""


@dataclass(frozen=True)
class Fused:
    """One token's outcome.

    Attributes
    ----------
    logits
        (B, V): those of the distribution that tokens are drawn from.
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
        """Return the outcome without any steering."""
        none = torch.zeros_like(logits[:, 0])
        return cls(logits, none, none)


class FixedFusion:
    """The geometric mean with one weight for all texts and tokens, `gm_scale`."""

    push = None
    """A factor on the steps, (B,); None is 1."""

    def __init__(self, gm_scale: float) -> None:
        self._gm_scale = gm_scale

    def look(self, text: TextSoFar) -> Tensor | None:  # noqa: ARG002
        """Return which attribute models are content with a text, (A, B) bool; None, because without a dial none is."""
        return None

    def fuse(self, text: TextSoFar, steered_logits: Tensor, reach: Tensor) -> Fused:  # noqa: ARG002
        """Return the distribution of the next token, given its steered logits (B, V)."""
        logits = fuse(text.reader.unsteered.logits, steered_logits, self._gm_scale)
        return Fused(logits, _divergence(text, logits), torch.full_like(logits[:, 0], self._gm_scale))

    def select(self, index: Tensor) -> None:
        """Go on with the samples in `index` alone."""


class Dial:
    """The geometric mean with the largest weight that the budget allows, or the smallest that meets a target.

    An attribute without a target, beside one with a target, may spend the budget of the given strength, or of the usual
    strength if none is given. The budget limits a token's whole divergence, including what the steps of earlier tokens
    left in the steered history: if that alone exceeds the budget, a smaller weight scales it back.

    Parameters
    ----------
    attributes, steering
        A attribute models, and the settings: the budget, the targets, and `gm_scale`, the largest weight.
    like
        (B, ...) on the device.

    """

    def __init__(self, attributes: Sequence[WeightedAttribute], steering: SteeringConfig, like: Tensor) -> None:
        none = torch.zeros(len(like), device=like.device)
        self._limit = steering.gm_scale
        self._free_budget = MAX_DIVERGENCE * USUAL_STRENGTH**2 if steering.strength is None else steering.budget
        wanted = wanted_levels(steering.target, attributes)
        self._aims = [Aim(own, level, steering.budget, like) for own, level in zip(attributes, wanted, strict=True)]
        pushing = [aim for aim in self._aims if aim.attribute.weight]
        self._free = any(aim.free for aim in pushing)
        self._targets = [aim for aim in pushing if not aim.free]
        # A step that is short because the gradient is weak, as a bag's is at most tokens, need not spend as much:
        # lengthening it would gain little of the attribute. With a target it must, for the target is to be reached.
        rules = {steering.step_of(kind_of(aim.attribute.model)).norm_rule for aim in pushing}
        self._follows_gradient = rules == {"running_max"} and not self._targets
        self._stride = Controller(_STRIDE_OF_BAGS if self._follows_gradient else _STRIDE, none)

    @property
    def push(self) -> Tensor:
        """A factor on the steps, (B,): by this token's budget, times the correction learnt from the text so far."""
        # A divergence grows with the square of both the step and the weight. At most 1: the usual first step
        # (`DIAL_STEPS`) is no better if made longer.
        return self._stride.push.exp() * ((self._allowed() / MAX_DIVERGENCE).sqrt() / self._limit).clamp(max=1.0)

    def _allowed(self) -> Tensor:
        """Return what each text may spend on this token, (B,) in nats."""
        allowed = torch.full_like(self._stride.push, self._free_budget if self._free else 0.0)
        return torch.stack([allowed, *(aim.allowed for aim in self._targets)]).amax(0)

    def look(self, text: TextSoFar) -> Tensor | None:
        """Return which attribute models are content with the text as it is, (A, B) bool; None if there is no target."""
        step = text.unsteered_step()
        idle = []
        for aim in self._aims:
            if self._targets or not aim.of_token:
                level = aim.measure(step)
                if not aim.of_token:
                    aim.observe(level)
                idle.append(aim.content(level) if aim.attribute.weight else torch.ones_like(level, dtype=torch.bool))
        return torch.stack(idle) if self._targets else None

    def fuse(self, text: TextSoFar, steered_logits: Tensor, reach: Tensor) -> Fused:
        """Return the distribution of the next token, given its steered logits (B, V).

        `reach` (B,) is the length of this token's steps as a ratio to that of steps by the text's strongest gradient so
        far (`Steered.reach`). It is NaN where the history was not moved: such a token does not show how long a step
        should be.
        """
        unsteered, allowed = text.reader.unsteered.logits, self._allowed()
        tilt = Tilt(text.reader.unsteered_log_probs, steered_logits, self._limit)
        scale = torch.zeros_like(allowed)
        if self._free:
            scale = tilt.affordable(scale + self._free_budget)
        for aim in self._targets:
            own = tilt.affordable(aim.allowed)
            own = self._least(aim, text, steered_logits, own) if aim.of_token else own
            scale = torch.maximum(scale, own)
        self._stride.update(self._error((tilt.most / allowed).sqrt(), reach))
        # NaN, so that steered logits which are no distribution are refused later instead of being weighed with 0.
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

    def _error(self, spent: Tensor, reach: Tensor) -> Tensor:
        """Return by how much the steps are too short (B,), as a logarithm; NaN where nothing was moved.

        `spent` (B,) is the square root of the share of the budget that the largest weight would spend; `reach` is as in
        `fuse`.
        """
        if not self._follows_gradient:
            return torch.where(reach.isnan(), torch.nan, _SPENT - spent.clamp(max=_OVERSPENT))
        wanted = (_SPENT_BY_BAGS * reach**_EXPONENT).clamp(min=_LEAST)
        return (wanted / spent.clamp(min=_LEAST)).log().clamp(-_LARGEST_ERROR, _LARGEST_ERROR)

    def _least(self, aim: Aim, text: TextSoFar, steered_logits: Tensor, most: Tensor) -> Tensor:
        """Return the smallest weight (B,) that meets a target's due level now; `most` (B,) if no smaller one does."""

        def content(scale: Tensor) -> Tensor:
            return aim.content(aim.measure(text.unsteered_step(fuse(unsteered, steered_logits, scale))), credit=_CREDIT)

        unsteered = text.reader.unsteered.logits
        low, high = torch.zeros_like(most), most
        already = content(low)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            enough = content(middle)
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        return torch.where(already, 0.0, high)


def fusion_of(attributes: Sequence[WeightedAttribute], steering: SteeringConfig, like: Tensor) -> FixedFusion | Dial:
    """Return what fuses the two distributions under these settings; `like` (B, ...) gives batch size and device."""
    return Dial(attributes, steering, like) if steering.dialled else FixedFusion(steering.gm_scale)


def _divergence(text: TextSoFar, logits: Tensor) -> Tensor:
    """Return KL(final || unsteered) (B,)."""
    return kl_from_log_probs(logits.log_softmax(-1), text.reader.unsteered_log_probs).clamp(min=0)
