"""A half-precision model's moved window, kept in float32: a step may be smaller than the format's spacing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pplm.text.kv_cache import History


class ExactWindow:
    """The window's positions as steering left them, unrounded, from token to token; empty until `keep` is called."""

    def __init__(self) -> None:
        self._start, self._layers = 0, list[list[Tensor]]()

    def restore(self, window: History, start: int, index: Tensor) -> History:
        """Overwrite those positions of a window (from `start` on, samples `index`) that are kept here; return it."""
        for layer, others in zip(window, self._layers, strict=False):  # no turns if nothing is kept
            for own, other in zip(layer, others, strict=True):
                kept = other[index, :, start - self._start :]
                own[:, :, : kept.shape[2]] = kept
        return window

    def keep(self, window: History, start: int, index: Tensor, moved: Sequence[Sequence[Tensor]]) -> None:
        """Keep the whole batch's window from `start` on, with the moved positions of the samples in `index`."""
        for layer, others in zip(window, moved, strict=True):
            for own, new in zip(layer, others, strict=True):
                own[index] = new
        self._start, self._layers = start, window

    def select(self, index: Tensor) -> None:
        """Forget all samples but those in `index`."""
        self._layers = [[t[index] for t in layer] for layer in self._layers]
