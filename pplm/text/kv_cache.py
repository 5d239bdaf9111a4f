"""Translates between the `Cache` of transformers and the tensors that the core steers.

A history is a list of layers, each `[keys, values]` of shape (B, H, L, D): L positions, D the head's width. While a
text is steered, its history lies in a `KeyValueBuffer`, which every pass reads in place: transformers' own cache would
copy the whole history at every pass, and a steered token takes several passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

History = list[list[Tensor]]
ROOM = 64
"""Spare positions, at least, of a buffer that is made or grows."""


class KeyValueBuffer:
    """Keys and values of every layer, with room for more positions; written in place.

    Parameters
    ----------
    layers
        (R, H, C, D) tensors: R rows and C positions, of which those in use come first.
    limit
        The most positions that will ever be needed; None if that is not known.
    single
        The number of first layers that are the same in both histories and so have B rows; the others have 2B, the
        steered ones first.

    """

    def __init__(self, layers: History, limit: int | None = None, single: int = 0) -> None:
        self.layers, self.limit, self.single = layers, limit, single

    @classmethod
    def of(cls, cache: Cache, *, single: int = 0, limit: int | None = None) -> KeyValueBuffer:
        """Copy a cache of B samples into a buffer with two histories, or one in the first `single` layers."""
        pairs = [(layer.keys, layer.values) for layer in cache.layers]
        layers = [[_with_room(t, limit, 1 + (n >= single)) for t in pair] for n, pair in enumerate(pairs)]
        return cls(layers, limit, single)

    @property
    def capacity(self) -> int:
        """C: how many positions fit."""
        return self.layers[0][0].shape[-2]

    def reserve(self, positions: int) -> bool:
        """Make room for this many positions, keeping what is there; return whether new memory was needed."""
        grows = self.capacity < positions
        while self.capacity < positions:
            for layer in self.layers:  # one by one, so that never more than one layer is in memory twice
                layer[:] = [_with_room(t, self.limit) for t in layer]
        return grows

    @property
    def batch(self) -> int:
        """B: samples with two histories."""
        return self.layers[-1][0].shape[0] // 2

    def history_rows(self, rows: slice) -> KeyValueBuffer:
        """Return one history, sharing memory: the steered one for `slice(B)`, the unsteered for `slice(B, None)`."""
        return KeyValueBuffer(
            [layer if n < self.single else [t[rows] for t in layer] for n, layer in enumerate(self.layers)],
            single=self.single,
        )

    @property
    def steered(self) -> KeyValueBuffer:
        """The steered history alone, sharing memory."""
        return self.history_rows(slice(self.batch))

    @property
    def unsteered(self) -> KeyValueBuffer:
        """The unsteered history alone, sharing memory."""
        return self.history_rows(slice(self.batch, None))

    def keep(self, index: Tensor) -> None:
        """Forget the samples not in `index`, layer by layer, so that never more than one layer is in memory twice."""
        both = torch.cat([index, index + self.batch])
        for number, layer in enumerate(self.layers):
            layer[:] = [t[index if number < self.single else both] for t in layer]

    def select(self, index: Tensor, positions: int) -> KeyValueBuffer:
        """Return a copy of both histories of the samples in `index`, up to a number of positions."""
        both = torch.cat([index, index + self.batch])
        layers = [
            [t[:, :, :positions][index if n < self.single else both] for t in layer]
            for n, layer in enumerate(self.layers)
        ]
        return KeyValueBuffer(layers, self.limit, self.single)

    def put(self, index: Tensor, other: KeyValueBuffer, positions: slice) -> None:
        """Overwrite some positions in the steered histories of the samples in `index` with another buffer's."""
        moved = zip(self.layers[self.single :], other.layers[self.single :], strict=True)
        for layer, others in moved:
            for own, new in zip(layer, others, strict=True):
                own[index, :, positions] = new[: len(index), :, positions]

    def history(self, positions: slice) -> History:
        """Return a range of positions, sharing their memory."""
        return [[t[:, :, positions] for t in layer] for layer in self.layers]

    def cache(self, start: int, tail: History | None = None) -> DynamicCache:
        """Return a cache of the first `start` positions followed by `tail`, to be read by one pass.

        The tail has only the layers with two histories. The pass writes the tail and its own keys and values into the
        buffer; gradients reach both and nothing else.
        """
        cache = DynamicCache()
        length = start + (tail[0][0].shape[-2] if tail else 0)
        for number, (keys, values) in enumerate(self.layers):
            if tail and number >= self.single:
                cache.layers.append(_BufferLayer(keys, values, start, tail[number - self.single]))
            else:
                cache.layers.append(_BufferLayer(keys, values, length))
        return cache


class CachedHistory:
    """The history in a cache of transformers, which a pass can continue without changing it."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def cache(self, start: int) -> DynamicCache:
        """Return a cache of the first `start` positions; a pass over it copies them."""
        pairs = ((layer.keys, layer.values) for layer in self._cache.layers)
        return DynamicCache(ddp_cache_data=[(k[:, :, :start], v[:, :, :start]) for k, v in pairs])


class _BufferLayer(DynamicLayer):
    """A cache layer whose update writes into a buffer instead of copying all earlier positions."""

    def __init__(self, keys: Tensor, values: Tensor, start: int, tail: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._buffers, self._start = (keys, values), start
        self._parts: list[list[Tensor]] = [[t] for t in tail] or [[], []]
        stop = start + (tail[0].shape[-2] if tail else 0)
        self.keys, self.values = keys[:, :, :stop], values[:, :, :stop]

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append new positions and return all of them."""
        for parts, new in zip(self._parts, (key_states, value_states), strict=True):
            parts.append(new)
        self.keys, self.values = (
            _Splice.apply(_Untracked(buffer), self._start, *parts)
            for parts, buffer in zip(self._parts, self._buffers, strict=True)
        )
        return self.keys, self.values


class _Untracked:
    """Carries a tensor past autograd, which would otherwise record writes into it.

    This also hides the writes from autograd's check that nothing saved for a backward pass is overwritten.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.data


class _Splice(torch.autograd.Function):
    """Write the most recent positions, parts (B, H, W, D), into a buffer; return a view of it up to their end.

    Earlier positions are constants: only the written ones pass a gradient on. The returned positions must not be
    written again before the backward pass, which holds because an iteration goes forward and back before the next one
    begins.
    """

    @staticmethod
    def forward(ctx: Any, buffer: _Untracked, start: int, *parts: Tensor) -> Tensor:
        stop = start
        for part in parts:
            begin, stop = stop, stop + part.shape[-2]
            buffer.tensor[:, :, begin:stop] = part
        ctx.start, ctx.lengths = start, [part.shape[-2] for part in parts]
        return buffer.tensor[:, :, :stop]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        parts = gradients[0][:, :, ctx.start :].split(ctx.lengths, dim=-2)
        # Copies, because a view would keep the gradient of the whole history until all layers are done.
        wanted = zip(parts, ctx.needs_input_grad[2:], strict=True)
        return None, None, *(part.clone() if needed else None for part, needed in wanted)


def _with_room(tensor: Tensor, limit: int | None, copies: int = 1) -> Tensor:
    """Copy (R, H, C, D) into (copies * R, H, C', D): half as many positions more, at least `ROOM`, within `limit`."""
    rows, heads, used, width = tensor.shape
    room = max(ROOM, used // 2) if limit is None else min(max(ROOM, used // 2), max(1, limit - used))
    grown = tensor.new_empty(copies * rows, heads, used + room, width)
    grown.view(copies, rows, heads, used + room, width)[..., :used, :] = tensor
    return grown
