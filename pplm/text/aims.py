"""Targets: the wanted level of an attribute, and the push that brings a text to it.

A level is a probability: for a bag, that the next token is one of its words; for a head, of its class given the text so
far.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pplm.config import SteeringConfig
from pplm.control import Controller, Gains
from pplm.errors import InputError, SteeringWarning
from pplm.interface import SteeringStep, WeightedAttribute

_TOLERANCE = 0.25
"""Share of a target by which the mean level over the texts may miss it without a warning."""
_ROUNDING = 1e-3
"""A probability may exceed 1 by this much."""
_LOWEST = 0.02
"""The least push for a level of the next token, as a share of the budget."""
_OF_TOKENS = {"proportional": 0.0, "integral": 0.06}
"""Gains for a level of the next token: nats per relative error of the mean level so far."""
_NATS_PER_LEVEL = 4.8
"""The first push per wanted level; about what a bag's level costs on two models, so that little is left to correct."""
_OF_TEXT = {"proportional": 0.8, "integral": 0.04}
"""Gains for a level of the text so far, which responds to a push late: nats per error."""


def of_token(attribute: WeightedAttribute) -> bool:
    """Return whether an attribute's level belongs to the next token, as a bag's does, not to the text so far."""
    return bool(getattr(attribute.model, "reads_logits", True))


def level_of(attribute: WeightedAttribute, step: SteeringStep) -> Tensor:
    """Return an attribute's level (B,) at a step; of an attribute to avoid, the level of what it avoids.

    It is 0 where the attribute model cannot act. If its loss is not -log of a probability, neither is this one.
    """
    with torch.no_grad():
        p = (-attribute.loss(step)).exp()
    return torch.where(p == 0, p, 1 - p) if getattr(attribute.model, "avoids", False) else p


class Aim:
    """One attribute's level in B texts, and the push that leads to the wanted one.

    The push is what may be spent on a token, in nats: a controller sets it by the error of the text so far, and it is
    at most the budget. Where the level belongs to the next token (`of_token`), a second, purely integral controller
    computes the level that is due at this token,

        d_t = wanted + sum over the tokens before of (wanted - level), clipped to -1 and 1,

    so that the mean over the text arrives at `wanted`. A token whose unsteered level meets d_t already is left alone.
    At most tokens d_t is out of reach within the push, which grows until the other tokens make up for them.

    Parameters
    ----------
    attribute
        The attribute; if its model `avoids`, `wanted` is an upper bound.
    wanted
        Above 0 and below 1; None measures the level only.
    budget
        Above 0, in nats.
    like
        (B, ...) on the device.

    """

    def __init__(self, attribute: WeightedAttribute, wanted: float | None, budget: float, like: Tensor) -> None:
        self.attribute, self.free, self.wanted = attribute, wanted is None, 1.0 if wanted is None else wanted
        self.of_token = of_token(attribute)
        self.avoids = bool(getattr(attribute.model, "avoids", False))
        none = torch.zeros(len(like), device=like.device)
        if self.of_token:
            gains = Gains(**_OF_TOKENS, low=_LOWEST * budget, high=budget)
            self._push = Controller(gains, none + _NATS_PER_LEVEL * self.wanted)
        else:
            self._push = Controller(Gains(**_OF_TEXT, high=budget), none)
        # A level that was too low is made up for later; one kept below an upper bound earns no excess later.
        gains = Gains(proportional=0.0, integral=1.0, low=-1.0, high=self.wanted if self.avoids else 1.0)
        self._due = Controller(gains, none + self.wanted)
        self._total, self._count = none, none
        self._checked = False

    @property
    def level(self) -> Tensor:
        """(B,): the level of the text so far; NaN before its first token."""
        return self._total / self._count

    def measure(self, step: SteeringStep) -> Tensor:
        """Return the level (B,) at a step.

        Raises
        ------
        InputError
            If there is a target and the level is no probability.

        """
        level = level_of(self.attribute, step)
        if not (self.free or self._checked):
            self._checked = True  # at the first token alone: an accelerator waits for the answer
            p = 1 - level if self.avoids else level
            if bool((p > 1 + _ROUNDING).any()):
                raise InputError(
                    f"a target of {self.attribute.name!r} is a probability, but its loss is below 0, so it is not -log "
                    "of one; steer it by strength"
                )
        return level

    def content(self, level: Tensor, *, credit: float = 0.0) -> Tensor:
        """Return which texts are at the level that is due now, or on the right side of it: (B,) bool.

        `credit` adds that many times the wanted level to the due one, if it is a level of the next token to be reached.
        """
        if self.free:
            return torch.zeros_like(level, dtype=torch.bool)
        if not self.of_token:
            return self._push.push <= 0
        return level <= self._due.push if self.avoids else level >= self._due.push + credit * self.wanted

    @property
    def allowed(self) -> Tensor:
        """(B,): what may be spent on the next token, in nats."""
        return self._push.push

    def observe(self, level: Tensor) -> None:
        """Record a level (B,), of a token's final distribution or of the text so far, and correct the push."""
        if self.of_token:
            self._total, self._count = self._total + level, self._count + 1
            self._due.update(self.wanted - level)
        else:
            self._total, self._count = level, torch.ones_like(level)
        error = self.level - self.wanted if self.avoids else self.wanted - self.level
        self._push.update((error / self.wanted).clamp(-1, 1) if self.of_token else error)

    def select(self, index: Tensor) -> None:
        """Go on with the samples in `index` alone."""
        self._push.select(index)
        self._due.select(index)
        self._total, self._count = self._total[index], self._count[index]


def wanted_levels(
    target: Mapping[str, float] | float | None, attributes: Sequence[WeightedAttribute]
) -> list[float | None]:
    """Return the wanted level of each attribute model, or None if there is none.

    Raises
    ------
    InputError
        If a name is not an attribute's, two names mean the same one, or a level without a name could be of several.

    """
    if target is None:
        return [None] * len(attributes)
    names = [attribute.name for attribute in attributes]
    if not isinstance(target, Mapping):
        if len(attributes) > 1:
            raise InputError(
                f"target={target:g} could be meant for any of {', '.join(names)}; name one: {names[0]}={target:g}"
            )
        return [target] * len(attributes)
    # An attribute to avoid may also be named by what it avoids.
    short = {name.removeprefix("avoid "): name for name in reversed(names)}
    wanted = {name if name in names else short.get(name, name): level for name, level in target.items()}
    if len(wanted) < len(target):
        raise InputError(f"target names an attribute twice: {', '.join(target)}; give each one level")
    if unknown := set(wanted) - set(names):
        raise InputError(f"target names {min(unknown)!r}; the attributes are {', '.join(names) or 'none'}")
    return [wanted.get(name) for name in names]


def named_levels(names: Sequence[str], levels: Sequence[float]) -> dict[str, float]:
    """Return the levels of one text by attribute name, without the missing ones (NaN)."""
    return {name: level for name, level in zip(names, levels, strict=True) if not math.isnan(level)}


def warn_of_missed(
    attributes: Sequence[WeightedAttribute], steering: SteeringConfig, levels: Sequence[Mapping[str, float]]
) -> None:
    """Warn of every target that `missed_targets` reports."""
    for told in missed_targets(attributes, steering, levels):
        warnings.warn(told, SteeringWarning, stacklevel=3)


def missed_targets(
    attributes: Sequence[WeightedAttribute], steering: SteeringConfig, levels: Sequence[Mapping[str, float]]
) -> list[str]:
    """Return a message for each attribute whose mean level over the texts misses its target by over a quarter.

    Parameters
    ----------
    attributes, steering
        The attributes, and the settings that steered with them.
    levels
        Of each text, by attribute name.

    """
    told: list[str] = []
    if not attributes or steering.target is None:
        return told
    stronger = "" if steering.strength is None else f"leave strength out (now {steering.strength:g}), "
    for attribute, wanted in zip(attributes, wanted_levels(steering.target, attributes), strict=True):
        found = [own[attribute.name] for own in levels if attribute.name in own]
        if wanted is None or not found:
            continue
        mean = sum(found) / len(found)
        avoids = getattr(attribute.model, "avoids", False)
        if mean > (1 + _TOLERANCE) * wanted if avoids else mean < (1 - _TOLERANCE) * wanted:
            name = repr(attribute.name)
            told.append(
                f"target {wanted:g} of {name} is not reached: the mean level of the texts is {mean:.2g}; "
                f"{stronger}{'allow more of it' if avoids else 'ask for less'}, or write longer texts, in which "
                "the push can grow"
            )
    return told
