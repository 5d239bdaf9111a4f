"""Weighted decoding: a constant is added to the logits of a bag's tokens.

It is the baseline WD of the paper's section 4, after Ghazvininejad et al. (2017, "Hafez: an interactive poetry
generation system").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from pplm.comparison.rivals.rival import Request, Rival
from pplm.interface import AttributeModel


@dataclass(frozen=True, eq=False)
class WeightedDecoding(Rival):
    """Raise the logits of the words that are single tokens.

    logit'(x) = logit(x) + strength * sum over bags i of weight_i * [x is a single-token word of bag i]

    Longer words have no token of their own to raise, and the weights of single words are ignored.

    Attributes
    ----------
    strength
        Nats added to a token's logit (>= 0; 0 adds nothing).
    added
        What is added, by token id.

    """

    title = "weighted decoding, a constant added to the logits of the bag's tokens"
    needs = "a bag of words, some of which are single tokens"
    default_strength = 3.0

    strength: float
    added: Mapping[int, float]

    @staticmethod
    def fits(model: AttributeModel) -> bool:
        """Return whether an attribute model lists single tokens."""
        return bool(getattr(model, "token_ids", ()))

    @classmethod
    def of(cls, request: Request) -> WeightedDecoding:
        """Return the method for some bags."""
        added: dict[int, float] = {}
        for bag in request.attributes:
            for token in bag.model.token_ids:  # type: ignore[attr-defined]
                added[token] = added.get(token, 0.0) + request.strength * bag.weight
        return cls(request.strength, added)

    @property
    def record(self) -> dict[str, Any]:
        """The strength; the bag itself belongs to the attribute's identity."""
        return {"strength": self.strength}

    @contextmanager
    def decoding(self, model: Any) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - needs nothing of it
        """Yield the logits processor."""
        yield {"logits_processor": LogitsProcessorList([AddToTokens(self.added)])}


class AddToTokens(LogitsProcessor):
    """Add nats to the scores of some tokens, the same for all samples."""

    def __init__(self, added: Mapping[int, float]) -> None:
        self.added = dict(added)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 - the interface of transformers
        """Return new scores (B, V)."""
        index = torch.tensor(list(self.added), device=scores.device)
        values = torch.tensor(list(self.added.values()), device=scores.device, dtype=scores.dtype)
        return scores.index_add(1, index, values.expand(len(scores), -1))
