"""The mean hidden state of a text, pooled the same way wherever it is needed: in steering and in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pplm.short_repr import ShortRepr


def model_body(model: Any) -> Any:
    """Return a causal language model without its head: what computes the hidden states that are pooled.

    It is transformers' `base_model`, except where a model names none and would return itself (Llama 4).
    """
    found = model.base_model
    return found if found is not model else next(child for child in model.children() if hasattr(child, "config"))


@dataclass(frozen=True, repr=False)
class PooledHidden(ShortRepr):
    """A mean under construction: the sum of hidden states (B, D) in float32 and their count (B,).

    Every real position counts once, the beginning-of-text token included; padding does not count.
    """

    total: Tensor
    count: Tensor

    @classmethod
    def of(cls, hidden_states: Tensor, attention_mask: Tensor) -> PooledHidden:
        """Pool hidden states (B, T, D) over the positions where `attention_mask` (B, T) is true."""
        mask = attention_mask.bool()
        # Selected, not multiplied: whatever a model leaves in a padded position, NaN included, stays out.
        kept = torch.where(mask[..., None], hidden_states.float(), 0.0)
        return cls(kept.sum(1), mask.sum(1))

    def select(self, index: Tensor) -> PooledHidden:
        """Return the samples in `index`."""
        return PooledHidden(self.total[index], self.count[index])

    def __add__(self, other: PooledHidden) -> PooledHidden:
        """Pool the positions of both."""
        return PooledHidden(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> Tensor:
        """(B, D)."""
        return self.total / self.count[:, None]
