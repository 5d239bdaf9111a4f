"""What a text is steered towards by number: the wanted level of an attribute, and the push that leads there.

A level is a probability: of a bag's words as the next token, or of a head's class for the text so far.
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
_ROUNDING = 1e-3
_LOWEST = 0.02
"""Of the budget."""
_OF_TOKENS = {"proportional": 0.0, "integral": 0.06}
"""For a level of tokens, by the relative error of their mean; nats."""
_NATS_PER_LEVEL = 4.8
"""Of the first push; about what a bag's level costs on two models, so that there is little to correct."""
_OF_TEXT = {"proportional": 0.8, "integral": 0.04}
"""For a level of the text so far, which answers a push late; nats."""


def of_token(attribute: WeightedAttribute) -> bool:
    """Return whether an attribute's level is one of the next token, as a bag's; else it is one of the text so far."""
    return bool(getattr(attribute.model, "reads_logits", True))


def level_of(attribute: WeightedAttribute, step: SteeringStep) -> Tensor:
    """Return an attribute's level (B,) in what a step shows; what is avoided has the level of that.

    It is 0 where the attribute model cannot act, and no probability where its loss is not -log of one.
    """
    with torch.no_grad():
        p = (-attribute.loss(step)).exp()
    return torch.where(p == 0, p, 1 - p) if getattr(attribute.model, "avoids", False) else p


class Aim:
    """One attribute's level in B texts, and the push that leads to the wanted one.

    The push is what may be spent on a token, in nats, at most the budget, set by the error of the text so far. Where
    the level is one of the next token (`of_token`), a second, purely integral controller says which level is due,

        d_t = wanted + sum over the tokens before of (wanted - level), within -1 and 1,

    so that the mean over the text arrives at `wanted`. A token whose unsteered level is due already is left alone.
    A single token seldom can be: the push grows until those that can make up for the others.

    Parameters
    ----------
    attribute
        Which attribute model; `avoids` makes `wanted` an upper bound.
    wanted
        Above 0 and below 1; None only measures the level.
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
        # What was not put in yet is made up for later; what was kept out gives no right to more.
        gains = Gains(proportional=0.0, integral=1.0, low=-1.0, high=self.wanted if self.avoids else 1.0)
        self._due = Controller(gains, none + self.wanted)
        self._total, self._count = none, none
        self._checked = False

    @property
    def level(self) -> Tensor:
        """(B,): of the text so far; NaN before its first token."""
        return self._total / self._count

    def measure(self, step: SteeringStep) -> Tensor:
        """Return the level (B,) in what a step shows."""
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
        """Return which texts are at the level that they should now have, (B,) bool, or on the right side of it.

        `credit` more wanted levels count as due.
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
        """Take note of a level (B,), that of a token once it is final or that of the text, and correct the push."""
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
    """Return the wanted level of each attribute model, None where none is asked for.

    Raises
    ------
    InputError
        If a name is no attribute's, or a level without a name could be that of several.

    """
    if target is None:
        return [None] * len(attributes)
    names = [attribute.name for attribute in attributes]
    if not isinstance(target, Mapping):
        if len(attributes) > 1:
            raise InputError(f"target={target:g} could be of any of {', '.join(names)}; name it: {names[0]}={target:g}")
        return [target] * len(attributes)
    # What is avoided may be named as the list that it was made of.
    short = {name.removeprefix("avoid "): name for name in reversed(names)}
    wanted = {name if name in names else short.get(name, name): level for name, level in target.items()}
    if len(wanted) < len(target):
        raise InputError(f"target names an attribute twice: {', '.join(target)}; give each one level")
    if unknown := set(wanted) - set(names):
        raise InputError(f"target names {min(unknown)!r}; the attributes are {', '.join(names) or 'none'}")
    return [wanted.get(name) for name in names]


def named_levels(names: Sequence[str], levels: Sequence[float]) -> dict[str, float]:
    """Return the levels of one text by attribute, without those that there are none of (NaN)."""
    return {name: level for name, level in zip(names, levels, strict=True) if not math.isnan(level)}


def warn_of_missed(
    attributes: Sequence[WeightedAttribute], steering: SteeringConfig, levels: Sequence[Mapping[str, float]]
) -> None:
    """Warn of what `missed_targets` tells."""
    for told in missed_targets(attributes, steering, levels):
        warnings.warn(told, SteeringWarning, stacklevel=3)


def missed_targets(
    attributes: Sequence[WeightedAttribute], steering: SteeringConfig, levels: Sequence[Mapping[str, float]]
) -> list[str]:
    """Return what there is to tell of each attribute whose mean level over texts is off its target by over a quarter.

    Parameters
    ----------
    attributes, steering
        What steered, and its settings.
    levels
        Of each text, by name of attribute.

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
