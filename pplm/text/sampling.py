"""Choosing the next token, from torch's global generator or from one random stream per sample.

A stream depends on (seed, prompt index, sample index) alone, so sample 3 of prompt 7 draws the same numbers in a batch
of any size and order, steered or not. In float32 it then is the same text. In half precision the other rows of a batch
change how its logits are rounded, and so, now and then, a token. Further candidates for the same sample have streams of
their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pplm.checks import check_whole
from pplm.errors import InputError

_AHEAD = 64
"""Uniform numbers drawn from a stream at once, so that an accelerator rarely waits for them."""
SampleId = tuple[int, int] | tuple[int, int, int]
"""(prompt index, sample index), or (prompt index, sample index, candidate); candidate 0 is the same as none given."""


class RandomStreams:
    """One random stream per sample, drawing one uniform number per token; `seed` is one for all, or one for each."""

    def __init__(self, seed: int | Sequence[int], samples: Sequence[SampleId]) -> None:
        seeds = seed if isinstance(seed, Sequence) else [seed] * len(samples)
        if len(seeds) != len(samples):
            raise InputError(f"seed lists {len(seeds)} seeds for {len(samples)} samples; give one for all, or one each")
        self._generators = [
            torch.Generator("cpu").manual_seed(_stream_seed(check_whole("seed", own), sample))
            for own, sample in zip(seeds, samples, strict=True)
        ]
        self._drawn: list[Tensor] = []  # (B, 1) each

    def sample(self, probabilities: Tensor) -> Tensor:
        """Draw one token per row from (B, V) probabilities by inverting their cumulative sum: (B,).

        With one number per token (instead of one per vocabulary entry), two runs whose distributions are close mostly
        draw the same token, so steered and unsteered texts differ by the steering alone.
        """
        # A Mac's accelerator has no double precision.
        place = torch.device("cpu") if probabilities.device.type == "mps" else probabilities.device
        if not self._drawn:
            ahead = [torch.rand(_AHEAD, generator=g, dtype=torch.float64, device="cpu") for g in self._generators]
            self._drawn = list(torch.stack(ahead, dim=1).to(place)[..., None])
        cumulative = probabilities.to(place).double().cumsum(-1)
        # Dividing by the last entry makes the end exactly 1 > uniform: no token of probability 0 can be drawn.
        cumulative = cumulative / cumulative[:, -1:]
        return torch.searchsorted(cumulative, self._drawn.pop(0), right=True).squeeze(1).to(probabilities.device)


def is_distribution(scores: Tensor) -> Tensor:
    """Return whether the softmax of each row of scores (B, V) is a distribution: (B,) bool.

    It is not if any score is NaN or +inf, or all are -inf.
    """
    return scores.amax(-1).isfinite()


def choose_tokens(scores: Tensor, do_sample: bool, streams: RandomStreams | None) -> Tensor:
    """Choose one token per row from processed scores (B, V): (B,).

    Without streams this draws from torch's global generator exactly as transformers does.
    """
    if not do_sample:
        return scores.argmax(-1)
    probabilities = scores.softmax(-1)
    if streams is not None:
        return streams.sample(probabilities)
    return torch.multinomial(probabilities, num_samples=1).squeeze(1)


def _stream_seed(seed: int, sample: SampleId) -> int:
    """Mix the numbers so that neighbouring streams are independent."""
    key = sample[:2] if sample[2:] == (0,) else sample
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=key)
    return int(sequence.generate_state(1, np.uint64)[0])
