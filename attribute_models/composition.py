"""Attribute models made of others. Sums need no class: pass several models, or (model, weight) pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attribute_models.bag_of_words import BagOfWords
from attribute_models.word_shares import WordShares
from pplm.interface import AttributeModel, SteeringStep, WholeText
from pplm.presets import kind_of

SMALLEST_LOSS = 1e-6
"""The avoided attribute's own loss is held above this: at probability 1 the complement's loss would be infinite."""


@dataclass(frozen=True, eq=False)
class Avoid:
    """Steer away from an attribute whose loss is -log of a probability p, as those of bags and heads are.

    The loss is -log(1 - p): for a bag the mass outside the bag, for a head the probability of all other classes.
    """

    attribute: AttributeModel

    may_be_idle = True
    avoids = True

    @property
    def name(self) -> str:
        """The avoided attribute's name, marked."""
        return f"avoid {getattr(self.attribute, 'name', type(self.attribute).__name__)}"

    @property
    def steering_kind(self) -> str:
        """A head's kind for a head, whose other classes are then wanted; else a kind of its own."""
        kind = kind_of(self.attribute)
        return "avoidance" if kind == "bag_of_words" else kind

    @property
    def reads_logits(self) -> bool:
        """Whether the avoided attribute asks for the next token's logits."""
        return getattr(self.attribute, "reads_logits", True)

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer that the avoided attribute was made with, if it depends on one."""
        return getattr(self.attribute, "tokenizer_fingerprint", None)

    def for_model(self, model: PreTrainedModel) -> Avoid:
        """Adapt the avoided attribute to the language model."""
        if isinstance(self.attribute, BagOfWords):
            return replace(self, attribute=self.attribute.for_model(model, avoided=True))
        adapt = getattr(self.attribute, "for_model", None)
        return self if adapt is None else replace(self, attribute=adapt(model))

    def for_explanation(self, model: PreTrainedModel) -> WordShares | None:
        """Return the avoided bag's words for this language model; None where what is avoided has none."""
        own = getattr(self.attribute, "for_explanation", None)
        words = None if own is None else own(model)
        return None if words is None else words.avoided_by(replace(self, attribute=words.attribute))

    @property
    def words_in(self) -> Callable[[Sequence[int], Sequence[str], str], list[bool]] | None:
        """Returns which tokens of a text are part of the avoided words; None where the avoided attribute has none."""
        return getattr(self.attribute, "words_in", None)

    def loss(self, step: SteeringStep) -> Tensor:
        """Return -log(1 - p): (B,), in nats; infinite where the avoided attribute cannot act."""
        return _complement(self.attribute.loss(step))

    @property
    def text_loss(self) -> Callable[[WholeText], Tensor] | None:
        """Returns -log(1 - p) of whole texts, (B,); None where the avoided attribute cannot read them."""
        own = getattr(self.attribute, "text_loss", None)
        if own is None:
            return None

        def loss(text: WholeText) -> Tensor:
            # Here an infinite loss means that nothing of the attribute is in the text, which is what is wanted.
            return torch.where(own(text).isinf(), 0.0, _complement(own(text)))

        return loss


def _complement(own: Tensor) -> Tensor:
    """Return -log(1 - p) for losses -log p (B,); infinite ones stay so."""
    acts = own.isfinite()
    own = torch.where(acts, own, 1.0).clamp(min=SMALLEST_LOSS)
    # log(1 - exp(-x)), by the form that is exact for small x and the one that is exact for large x.
    small = own < math.log(2)
    exact_small = torch.log(-torch.expm1(-torch.where(small, own, 1.0)))
    exact_large = torch.log1p(-torch.exp(-torch.where(small, 1.0, own)))
    return torch.where(acts, -torch.where(small, exact_small, exact_large), torch.inf)
