"""Attribute models made from others. A sum needs no class: pass several models, or (model, weight) pairs."""

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
"""The avoided attribute's own loss is raised to at least this: at probability 1 the loss of avoiding it is infinite."""


@dataclass(frozen=True, eq=False)
class Avoid:
    """Steer away from an attribute whose loss is -log of a probability p, as those of bags and heads are.

    The loss is -log(1 - p), where 1 - p is the mass outside a bag, or the probability of all other classes of a head.
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
        """For a bag "avoidance", else the attribute's own kind: avoiding a class of a head means wanting the others."""
        kind = kind_of(self.attribute)
        return "avoidance" if kind == "bag_of_words" else kind

    @property
    def reads_logits(self) -> bool:
        """Whether the avoided attribute reads the next token's logits."""
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
        """Return the avoided bag word by word for this language model; None if the avoided attribute has no words."""
        own = getattr(self.attribute, "for_explanation", None)
        words = None if own is None else own(model)
        return None if words is None else words.avoided_by(replace(self, attribute=words.attribute))

    @property
    def words_in(self) -> Callable[[Sequence[int], Sequence[str], str], list[bool]] | None:
        """Returns which tokens of a text are part of the avoided words; None if the avoided attribute has no words."""
        return getattr(self.attribute, "words_in", None)

    def loss(self, step: SteeringStep) -> Tensor:
        """Return -log(1 - p): (B,), in nats; infinite where the avoided attribute cannot act."""
        return _complement(self.attribute.loss(step))

    @property
    def text_loss(self) -> Callable[[WholeText], Tensor] | None:
        """Returns -log(1 - p) of whole texts, (B,), in nats; None if the avoided attribute has no `text_loss`."""
        own = getattr(self.attribute, "text_loss", None)
        if own is None:
            return None

        def loss(text: WholeText) -> Tensor:
            # An infinite loss means p = 0: the text has nothing of the attribute, so avoiding it costs nothing.
            return torch.where(own(text).isinf(), 0.0, _complement(own(text)))

        return loss


def _complement(own: Tensor) -> Tensor:
    """Return -log(1 - p) for losses -log p (B,); infinite ones stay so."""
    acts = own.isfinite()
    own = torch.where(acts, own, 1.0).clamp(min=SMALLEST_LOSS)
    # log(1 - exp(-x)) in two forms: one is accurate for small x, the other for large x.
    small = own < math.log(2)
    exact_small = torch.log(-torch.expm1(-torch.where(small, own, 1.0)))
    exact_large = torch.log1p(-torch.exp(-torch.where(small, 1.0, own)))
    return torch.where(acts, -torch.where(small, exact_small, exact_large), torch.inf)
