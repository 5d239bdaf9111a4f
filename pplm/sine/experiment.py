"""Steered against unsteered waves, measured: what the sine-wave experiment reports, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.short_repr import ShortRepr
from pplm.sine.attributes import WaveAttribute
from pplm.sine.network import SAMPLE_RATE, WaveNetworks
from pplm.sine.wave import DrawnWaves, SineConfig, draw

SETTLED = 2 * SAMPLE_RATE
"""Frequency and amplitude are measured from this sample on (2 s), when the given samples have lost their influence."""


@dataclass(frozen=True)
class SineRow:
    """One seed's waves: cumulative squared error from the wanted wave (`sse`), frequency in Hz, amplitude.

    A frequency is None for a wave that crosses zero upwards fewer than twice after 2 s.
    """

    seed: int
    unsteered_sse: float
    steered_sse: float
    unsteered_frequency: float | None
    steered_frequency: float | None
    unsteered_amplitude: float
    steered_amplitude: float


@dataclass(frozen=True, repr=False)
class MeasuredWaves(ShortRepr):
    """What `measure_waves` returns: the wanted wave (T,), the waves (B, T) and one row per seed."""

    wanted: Tensor
    unsteered: DrawnWaves
    steered: DrawnWaves
    rows: list[SineRow]


def measure_waves(
    networks: WaveNetworks,
    seeds: Sequence[int],
    wanted: Tensor,
    attribute: WaveAttribute,
    config: SineConfig | None = None,
) -> MeasuredWaves:
    """Draw every network's wave unsteered and steered, both as long as `wanted` (T,), and measure them."""
    unsteered = draw(networks, num_samples=len(wanted))
    steered = draw(networks, attribute, config, num_samples=len(wanted))
    pairs = unsteered.samples, steered.samples
    errors = [squared_error(waves, wanted)[:, -1].tolist() for waves in pairs]
    frequencies = [[None if math.isnan(hertz) else hertz for hertz in frequency(waves).tolist()] for waves in pairs]
    amplitudes = [amplitude(waves).tolist() for waves in pairs]
    rows = [SineRow(*row) for row in zip(seeds, *errors, *frequencies, *amplitudes, strict=True)]
    return MeasuredWaves(wanted, unsteered, steered, rows)


def squared_error(waves: Tensor, wanted: Tensor) -> Tensor:
    """Return the cumulative squared error (B, T) of waves (B, T) from the wanted one (T,)."""
    return ((waves - wanted) ** 2).cumsum(1)


def frequency(waves: Tensor) -> Tensor:
    """Return the frequency (B,) in Hz, from the mean spacing of upward zero crossings after 2 s; NaN if fewer than 2.

    A crossing's time is interpolated between its two samples.
    """
    return torch.tensor([_frequency(wave) for wave in waves[:, SETTLED:]], dtype=waves.dtype)


def _frequency(wave: Tensor) -> float:
    before = torch.nonzero((wave[:-1] < 0) & (wave[1:] >= 0)).squeeze(1)
    if len(before) < 2:
        return math.nan
    times = before + wave[before] / (wave[before] - wave[before + 1])
    return SAMPLE_RATE * (len(times) - 1) / float(times[-1] - times[0])


def amplitude(waves: Tensor) -> Tensor:
    """Return the amplitude (B,): root 2 times the standard deviation after 2 s."""
    return math.sqrt(2) * waves[:, SETTLED:].std(1, correction=0)
