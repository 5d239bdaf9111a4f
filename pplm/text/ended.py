"""What is kept of samples that ended before the others of their batch, until the whole batch is returned."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache

from pplm.text.kv_cache import History


class EndedHistories:
    """The unsteered histories of the samples of a batch of B that are no longer read."""

    def __init__(self, batch: int) -> None:
        self._batch, self._parts = batch, list[tuple[Tensor, History]]()

    def put(self, rows: Tensor, history: History) -> None:
        """Keep the histories of some rows of the batch, at their present length."""
        self._parts.append((rows, history))

    def fill(self, values: Tensor, rows: Tensor) -> Tensor:
        """Spread values (N, ...) of the rows that go on over the whole batch, (B, ...): ended rows are zero."""
        if not self._parts:
            return values
        return values.new_zeros(self._batch, *values.shape[1:]).index_copy(0, rows, values)

    def join(self, rows: Tensor, cache: Cache) -> None:
        """Let a cache of the rows that go on hold all rows, in tensors of its own; zeros follow an ended row's end."""
        for number, layer in enumerate(cache.layers):
            if not self._parts:
                layer.keys, layer.values = (
                    t.clone(memory_format=torch.contiguous_format) for t in (layer.keys, layer.values)
                )
                continue
            layer.keys, layer.values = (self.fill(t, rows) for t in (layer.keys, layer.values))
            for ended, history in self._parts:
                for tensor, kept in zip((layer.keys, layer.values), history[number], strict=True):
                    tensor[ended, :, : kept.shape[2]] = kept
