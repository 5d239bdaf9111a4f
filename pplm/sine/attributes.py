"""What a wave can be steered by: attribute models as formulas, for a known wave, for an oscillation, for its growth.

Letters: B waves, T samples in time.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from pplm.errors import InputError
from pplm.sine.network import SAMPLE_RATE, check_wave

MAX_PUSH = 0.5
"""At 1 the loss of `Swing` would have no lowest point."""


class WaveAttribute(Protocol):
    """An attribute model of waves: measures how far a sample is from what is wanted."""

    def loss(self, sample: Tensor, past: Tensor) -> Tensor:
        """Return the loss (B,) of the next sample (B,) after `past` (B, t), all samples of the wave so far."""


class Reference:
    """The known true wave: loss = (x_t - wave_t)^2.

    Parameters
    ----------
    wave
        (T,): what to follow, sample by sample; at least as long as the wave to draw.

    """

    def __init__(self, wave: Tensor) -> None:
        if wave.dim() != 1 or not torch.isfinite(wave).all():
            raise InputError(f"wave must be finite numbers of shape (T,); got shape {tuple(wave.shape)}")
        self.wave = wave

    def loss(self, sample: Tensor, past: Tensor) -> Tensor:
        """Return the squared distance (B,) from the true sample."""
        if past.shape[1] >= len(self.wave):
            raise InputError(f"wave has {len(self.wave)} samples and a longer wave was asked for; give a longer one")
        return (sample - self.wave[past.shape[1]]) ** 2


class Oscillator:
    """A formula that contains no true sample, only the wave's frequency and amplitude.

    Every sampled sine of angle w = 2 pi f / rate obeys x_t = 2 cos(w) x_{t-1} - x_{t-2}, and any two neighbours
    determine its amplitude: E_t = (x_t^2 - 2 cos(w) x_t x_{t-1} + x_{t-1}^2) / sin(w)^2 = A^2. The loss is

        (x_t - 2 cos(w) x_{t-1} + x_{t-2})^2 + energy_scale * (sin(w) (E_t - A^2) / (2 A))^2

    with the network's own past samples. With the recurrence alone an error is never forgotten, so amplitude and phase
    wander; the energy pulls the amplitude back. Its factor sin(w) / (2 A) makes it, like the first term, an error of
    the sample: at a zero crossing, where the energy depends most on the sample, its slope is 1 as well.

    Parameters
    ----------
    frequency
        Hz, above 0 and below half the sample rate.
    amplitude
        Above 0 and at most 1, the largest that the network's tanh can emit.
    energy_scale
        Weight of the energy's error (>= 0; 0 leaves the recurrence alone).

    """

    def __init__(self, frequency: float, amplitude: float = 1.0, *, energy_scale: float = 3.0) -> None:
        check_wave(frequency, amplitude)
        if not 0 <= energy_scale < math.inf:
            raise InputError(f"energy_scale must be finite and at least 0; got {energy_scale}")
        self.frequency, self.amplitude, self.energy_scale = frequency, amplitude, energy_scale

    def loss(self, sample: Tensor, past: Tensor) -> Tensor:
        """Return the loss (B,) that the class describes."""
        recurrence_error, energy = oscillation(sample, past, self.frequency)
        sin = math.sin(_angle(self.frequency))
        energy_error = sin * (energy - self.amplitude**2) / (2 * self.amplitude)
        return recurrence_error**2 + self.energy_scale * energy_error**2


class Swing:
    """An oscillation of a given frequency that grows or fades; the formula does not contain its amplitude.

    The loss is the recurrence's squared error minus the push times the scaled energy (see `Oscillator`):

        (x_t - 2 cos(w) x_{t-1} + x_{t-2})^2 - push * sin(w)^2 E_t

    At push 0 a wave keeps its amplitude, apart from the network's own errors; a positive push makes it louder, a
    negative one quieter. The loss is lowest where the wave's speed, x_t - cos(w) x_{t-1}, is 1 / (1 - push) times the
    recurrence's, so the logarithm of the amplitude changes by about push / 2 per sample.

    Parameters
    ----------
    frequency
        Hz, above 0 and below half the sample rate.
    push
        A number, or one for each wave (B,); between -1 and 0.5, 0 leaves the amplitude alone.

    """

    def __init__(self, frequency: float, push: Tensor | float) -> None:
        check_wave(frequency)
        self.push = torch.as_tensor(push, dtype=torch.float64)
        if not ((self.push >= -1) & (self.push <= MAX_PUSH)).all():
            raise InputError(f"push must be between -1 and {MAX_PUSH}; got {self.push.tolist()}")
        self.frequency = frequency

    def loss(self, sample: Tensor, past: Tensor) -> Tensor:
        """Return the loss (B,) that the class describes."""
        recurrence_error, energy = oscillation(sample, past, self.frequency)
        return recurrence_error**2 - self.push * math.sin(_angle(self.frequency)) ** 2 * energy


def oscillation(sample: Tensor, past: Tensor, frequency: float) -> tuple[Tensor, Tensor]:
    """Return the recurrence's error and the energy E, each (B, ...), of samples (B, ...) after `past` (B, ..., t).

    Both are those of `Oscillator`: for a sine of this frequency (Hz) the error is 0 and the energy is the amplitude's
    square.
    """
    cos, sin = math.cos(_angle(frequency)), math.sin(_angle(frequency))
    before, last = past[..., -2], past[..., -1]
    recurrence_error = sample - 2 * cos * last + before
    return recurrence_error, (sample**2 - 2 * cos * sample * last + last**2) / sin**2


def _angle(frequency: float) -> float:
    return 2 * math.pi * frequency / SAMPLE_RATE
