"""Samples that ended before the others of their batch: what is kept of them until the whole batch is returned."""

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
        """Keep the histories of some rows of the batch, as long as they are by now."""
        self._parts.append((rows, history))

    def fill(self, values: Tensor, rows: Tensor) -> Tensor:
        """Return values (N, ...) of the rows that go on as those of the whole batch, (B, ...): zero where one ended."""
        if not self._parts:
            return values
        return values.new_zeros(self._batch, *values.shape[1:]).index_copy(0, rows, values)

    def join(self, rows: Tensor, cache: Cache) -> None:
        """Let a cache of the rows that go on hold all rows, in tensors of its own; zeros follow where one ended."""
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
