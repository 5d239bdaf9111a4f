"""Which tokens a training step reads: this depends only on how much was read before, so a resumed run needs no state.

The token stream is cut into spans as long as the model's context. Every epoch cuts it at other places and shuffles the
spans; a step takes the next ones in that order and may cut each into shorter blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pplm.errors import InputError


@dataclass(frozen=True)
class Blocks:
    """Input ids, target ids and positions, each (B, T)."""

    input_ids: Tensor
    targets: Tensor
    position_ids: Tensor

    def rows(self, index: slice) -> Blocks:
        """Return a slice of the blocks."""
        return Blocks(self.input_ids[index], self.targets[index], self.position_ids[index])

    def to(self, device: torch.device) -> Blocks:
        """Return the blocks on a device."""
        return Blocks(self.input_ids.to(device), self.targets.to(device), self.position_ids.to(device))


class BlockOrder:
    """The order in which a token stream is read.

    Parameters
    ----------
    tokens
        (N,) token ids.
    num_positions
        Length of a span: the model's context.
    seed
        Seed of the shuffling and of the cuts.

    Raises
    ------
    InputError
        If the stream is shorter than two spans and one token.

    """

    def __init__(self, tokens: NDArray[Any], *, num_positions: int, seed: int) -> None:
        # One token is kept for the last target, and one span for the shift of the cuts.
        self.spans_per_epoch = (len(tokens) - 1) // num_positions - 1
        if self.spans_per_epoch < 1:
            raise InputError(
                f"the corpus has {len(tokens)} tokens; it takes at least {2 * num_positions + 1}: add text, or lower "
                "num_positions"
            )
        self.tokens, self.num_positions, self.seed = tokens, num_positions, seed
        self._epoch, self._starts = -1, np.empty(0, dtype=np.int64)

    def spans(self, first: int, count: int) -> NDArray[np.int64]:
        """Return where `count` spans begin in the stream, from number `first` of the whole run on: (count,)."""
        return np.array([self._start(number) for number in range(first, first + count)], dtype=np.int64)

    def blocks(self, starts: NDArray[np.int64], *, block_length: int, step: int) -> Blocks:
        """Cut spans into blocks of `block_length`; if `step` is odd, each block gets a random offset to its positions.

        A model that only sees short blocks at its first positions learns nothing about the others. Offsets in half
        of the steps train all positions at the cost of short blocks.
        """
        offsets = np.arange(0, self.num_positions - block_length + 1, block_length)
        begins = (starts[:, None] + offsets).ravel()
        ids = torch.from_numpy(self.tokens[begins[:, None] + np.arange(block_length + 1)].astype(np.int64))
        room = self.num_positions - block_length
        shifts = np.random.default_rng((self.seed, 1, step)).integers(0, room + 1, len(begins))
        first = torch.from_numpy(shifts if step % 2 else np.zeros_like(shifts))
        return Blocks(ids[:, :-1], ids[:, 1:], first[:, None] + torch.arange(block_length))

    def _start(self, number: int) -> int:
        epoch, index = divmod(number, self.spans_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng((self.seed, 0, epoch))
            shift = int(generator.integers(0, self.num_positions))
            self._starts = generator.permutation(self.spans_per_epoch) * self.num_positions + shift
            self._epoch = epoch
        return int(self._starts[index])
