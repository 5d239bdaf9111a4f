"""The readings of one new token, over the two histories of a batch of texts.

Steered and unsteered rows lie in one buffer. The unsteered reading of a new token is made in the same pass as the first
steered one, as extra rows: with few samples the cost of a pass is reading the weights once, however many rows it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pplm.private_names import tree_map
from pplm.text.forward import LastToken, ModelInputs, expected_future, forward_last, take_rows
from pplm.text.kv_cache import History, KeyValueBuffer
from pplm.text.split import SplitModel


class LastTokenReader:
    """Reads a text's last token over its histories.

    Parameters
    ----------
    inputs
        Model inputs of the last token, for B samples.
    histories
        2B rows, the steered ones first, with room for this token and the future.
    length
        Positions before the last token.
    unsteered
        The last token's unsteered reading, if it has been made; the unsteered rows then hold its keys and values.
    split
        The model in two parts, if only the upper layers are moved.

    """

    def __init__(
        self,
        model: Any,
        inputs: ModelInputs,
        histories: KeyValueBuffer,
        length: int,
        unsteered: LastToken | None,
        split: SplitModel | None = None,
    ) -> None:
        self.model, self.inputs, self.histories, self.length, self.split = model, inputs, histories, length, split
        self.batch, self._unsteered = histories.batch, unsteered
        self._lower_outputs: Any = None

    def window(self, start: int) -> History:
        """Return a copy of the moved layers' steered keys and values, (B, H, W, D) each, from position `start` on.

        It is in float32 at least, because what steering adds is smaller than the spacing of half-precision numbers.
        """
        moved = self.histories.steered.history(slice(start, self.length))[self.histories.single :]
        return [[t.to(torch.promote_types(t.dtype, torch.float32), copy=True) for t in layer] for layer in moved]

    def steered(
        self, start: int, window: Sequence[Sequence[Tensor]] | None = None, *, logits: bool = True
    ) -> LastToken:
        """Read over the steered history, with `window` in place of its positions from `start` on.

        For this reading the window is rounded to the model's number format; its gradient is not. `logits=False` leaves
        the logits out where that saves time.
        """
        dtype = self.histories.layers[0][0].dtype
        tail = [[t.to(dtype) for t in layer] for layer in window] if window else None
        if self.split is None and self._unsteered is None:
            return self._both(start, tail)
        model = self.model
        if self.split is not None:
            _ = self.unsteered  # the one reading of the lower layers
            self.split.outputs, model = self._lower_outputs, self.split.upper
        cache = self.histories.steered.cache(start if tail else self.length, tail)
        return forward_last(model, self.inputs, cache, logits=logits)

    @property
    def unsteered(self) -> LastToken:
        """The unsteered reading; made together with the first steered one, or alone if it is needed before."""
        if self._unsteered is None or (self.split is not None and self._lower_outputs is None):
            model = self.model if self.split is None else self.split.whole
            self._unsteered = forward_last(model, self.inputs, self.histories.unsteered.cache(self.length))
            if self.split is not None:
                self._lower_outputs = list(self.split.outputs)
        return self._unsteered

    @cached_property
    def unsteered_log_probs(self) -> Tensor:
        """(B, V) log-probabilities of the unsteered reading."""
        return self.unsteered.logits.log_softmax(-1)

    def future(self, logits: Tensor, horizon_length: int) -> Tensor:
        """Continue the unsteered text with the expected future that `logits` begin: (B, horizon_length, D)."""
        unsteered = self.histories.unsteered
        return expected_future(self.model, self.inputs, unsteered, self.length + 1, logits, horizon_length)

    def select(self, index: Tensor, horizon_length: int) -> LastTokenReader:
        """Return a reader of the samples in `index`, over a copy of their histories with room for the future."""
        histories = self.histories.select(index, self.length + 1 + horizon_length)
        inputs, unsteered = take_rows(self.inputs, index), self.unsteered.rows(index)
        some = LastTokenReader(self.model, inputs, histories, self.length, unsteered, self.split)
        if self._lower_outputs is not None:
            some._lower_outputs = tree_map(lambda t: t[index] if isinstance(t, Tensor) else t, self._lower_outputs)
        return some

    def put(self, index: Tensor, some: LastTokenReader, start: int) -> None:
        """Copy back the steered positions from `start` on of `some`, a reader of the samples in `index`."""
        self.histories.put(index, some.histories, slice(start, self.length + 1))

    def _both(self, start: int, tail: History | None) -> LastToken:
        """Read over both histories in one pass; the unsteered rows pass no gradient on."""
        if tail:
            rest = self.histories.unsteered.history(slice(start, self.length))
            tail = [
                [torch.cat(pair) for pair in zip(own, other, strict=True)]
                for own, other in zip(tail, rest, strict=True)
            ]
        twice = torch.arange(self.batch, device=self.histories.layers[0][0].device).repeat(2)
        cache = self.histories.cache(start if tail else self.length, tail)
        both = forward_last(self.model, take_rows(self.inputs, twice), cache)
        self._unsteered = LastToken(both.logits[self.batch :].detach(), both.hidden_state[self.batch :].detach())
        return both.rows(slice(0, self.batch))
