"""What an attribute model is, and what it is shown before each new token.

Any object with a method `loss(step) -> (B,)` is an attribute model; nothing is registered and nothing inherited.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from pplm.errors import InputError


@dataclass(frozen=True)
class SteeringStep:
    """The text so far and what the steered model makes of it, at one iteration before one new token.

    Attributes
    ----------
    input_ids
        (B, T) token ids so far, left-padded.
    attention_mask
        (B, T) bool, False on padding.
    logits
        (B, V) float32, steered logits of the next token; differentiable.
    pool
        Returns `mean_hidden_state`; called only when that is asked for, because it costs a pass.

    """

    input_ids: Tensor
    attention_mask: Tensor
    logits: Tensor
    pool: Callable[[], Tensor]

    @cached_property
    def log_probs(self) -> Tensor:
        """(B, V) log-probabilities of the next token; differentiable."""
        return self.logits.log_softmax(-1)

    @cached_property
    def mean_hidden_state(self) -> Tensor:
        """(B, D) mean last-layer hidden state of the text and its expected future; differentiable.

        The expected future is `horizon_length` positions, each fed with the expected embedding of the
        distribution before it (paper, section 3.2, footnote on the discriminator's future step).
        """
        return self.pool()


@runtime_checkable
class AttributeModel(Protocol):
    """Something that can say, differentiably, how much a text lacks an attribute.

    Optional members: `name` (str, for reports), `steering_preset` ("bag_of_words" or "discriminator", the settings
    that `SteeringConfig.for_attributes` starts from) and `check_model(model)`, which is called once before a batch
    is decoded and raises `InputError` if the attribute model was made for another language model. Something that
    wraps another attribute model passes the call on.
    """

    def loss(self, step: SteeringStep) -> Tensor:
        """Return -log p(attribute | text) or anything else to be lowered, one number a sample: (B,)."""
        ...


@dataclass(frozen=True)
class WeightedAttribute:
    """An attribute model in a mixture: the mixture's loss is the sum of `weight * model.loss(step)`."""

    name: str
    model: AttributeModel
    weight: float

    def loss(self, step: SteeringStep) -> Tensor:
        """Return the model's own loss (B,), unweighted, checked for its shape."""
        loss = self.model.loss(step)
        expected = (step.logits.shape[0],)
        if loss.shape != expected:
            raise InputError(
                f"attribute model {self.name!r}: loss(step) must return one number a sample, shape {expected}; got "
                f"{tuple(loss.shape)}"
            )
        return loss


def check_attributes(attributes: Sequence[WeightedAttribute], model: Any) -> None:
    """Let every attribute model that can tell refuse a language model it was not made for.

    Raises
    ------
    InputError
        From an attribute model's `check_model`.

    """
    for attribute in attributes:
        check = getattr(attribute.model, "check_model", None)
        if check is not None:
            check(model)


def weigh_attributes(
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]],
) -> tuple[WeightedAttribute, ...]:
    """Bring attribute models and (model, weight) pairs into one form, with distinct names.

    Raises
    ------
    InputError
        If something has no `loss` method, or a weight is negative or not finite.

    """
    if isinstance(attributes, AttributeModel):
        attributes = [attributes]
    weighted = []
    seen: Counter[str] = Counter()
    for item in attributes:
        model, weight = item if isinstance(item, tuple) else (item, 1.0)
        if not isinstance(model, AttributeModel):
            raise InputError(f"attributes must have a method loss(step); got {type(model).__name__} {model!r}")
        name = getattr(model, "name", type(model).__name__)
        if not math.isfinite(weight) or weight < 0:
            raise InputError(f"the weight of attribute {name!r} must be finite and at least 0; got {weight}")
        seen[name] += 1
        weighted.append(WeightedAttribute(name if seen[name] == 1 else f"{name}#{seen[name]}", model, float(weight)))
    return tuple(weighted)
