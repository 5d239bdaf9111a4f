"""The mean hidden state of a text, pooled in the same way in steering and in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pplm.short_repr import ShortRepr


def model_body(model: Any) -> Any:
    """Return a causal language model's body, without the head: it computes the hidden states that are pooled.

    This is transformers' `base_model`, except for a model that names none and would return itself (Llama 4).
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
        # Selected, not multiplied by the mask, so that NaN in a padded position stays out as well.
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
        """(B, D) mean; NaN where no position counts."""
        return self.total / self.count[:, None]
