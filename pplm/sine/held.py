"""Waves held at an amplitude, compared with waves that no controller corrects, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.sine.amplitude import AmplitudeControl
from pplm.sine.attributes import Swing
from pplm.sine.experiment import SETTLED, amplitude, frequency
from pplm.sine.network import NUM_SAMPLES, SAMPLE_RATE, WaveNetworks
from pplm.sine.wave import DrawnWaves, SineConfig, draw

TOLERANCE = 0.1
"""A wave has reached its target within this share of it."""


@dataclass(frozen=True)
class HeldRow:
    """One seed's waves.

    Attributes
    ----------
    seed
        The network's seed.
    unsteered_amplitude, constant_amplitude, steered_amplitude
        After 2 s: of the network alone, under the constant push, and under the controller.
    steered_frequency
        Hz, after 2 s, under the controller; None for a wave that crosses zero upwards fewer than twice.
    reached
        Seconds until the controlled wave's amplitude over the last period was first within 10% of the target; None
        if it never was.
    overshoot
        Largest distance of that amplitude from the target after first crossing it, as a share of the target; 0 if it
        never does.
    largest_error
        Largest distance of that amplitude from the target at any time after 2 s, as a share of the target.

    """

    seed: int
    unsteered_amplitude: float
    constant_amplitude: float
    steered_amplitude: float
    steered_frequency: float | None
    reached: float | None
    overshoot: float
    largest_error: float


@dataclass(frozen=True)
class HeldWaves:
    """What `measure_held` returns: the waves (B, T) of each way, the constant push, and one row per seed."""

    control: AmplitudeControl
    constant_push: float
    unsteered: DrawnWaves
    constant: DrawnWaves
    steered: DrawnWaves
    rows: list[HeldRow]


def measure_held(
    networks: WaveNetworks,
    seeds: Sequence[int],
    control: AmplitudeControl,
    config: SineConfig | None = None,
    *,
    num_samples: int = NUM_SAMPLES,
) -> HeldWaves:
    """Draw every network's wave alone, under a constant push and under control, and measure all three."""
    push = constant_push(control)
    unsteered = draw(networks, None, config, num_samples=num_samples)
    constant = draw(networks, Swing(control.frequency, push), config, num_samples=num_samples)
    steered = draw(networks, control, config, num_samples=num_samples)
    errors = amplitude_over_time(steered.samples, control.frequency) / control.amplitude - 1
    columns = [amplitude(waves.samples).tolist() for waves in (unsteered, constant, steered)]
    hertz = [None if math.isnan(value) else value for value in frequency(steered.samples).tolist()]
    courses = [course(wave) for wave in errors]
    rows = [HeldRow(*row, *course) for *row, course in zip(seeds, *columns, hertz, courses, strict=True)]
    return HeldWaves(control, push, unsteered, constant, steered, rows)


def constant_push(control: AmplitudeControl) -> float:
    """Return the push that, without correction, takes an ideal wave from amplitude 1 to the target in 2 s."""
    return 2 * math.log(control.amplitude) / SETTLED


def amplitude_over_time(waves: Tensor, frequency: float) -> Tensor:
    """Return the amplitude (B, T) over the last period: root 2 times the standard deviation; NaN in the first period.

    As it only looks back, it lags by half a period.
    """
    period = round(SAMPLE_RATE / frequency)
    measured = math.sqrt(2) * waves.unfold(1, period, 1).std(2, correction=0)
    return torch.cat([measured.new_full((len(waves), period - 1), math.nan), measured], dim=1)


def course(errors: Tensor) -> tuple[float | None, float, float]:
    """Return when a wave reached its target, its overshoot and its largest error after 2 s; see `HeldRow`.

    Parameters
    ----------
    errors
        (T,): the amplitude's distance from the target, as a share of it; NaN in the first period.

    """
    within = torch.nonzero(errors.abs() <= TOLERANCE)
    known = errors[~errors.isnan()]
    crossed = torch.nonzero(known.sign() != known[0].sign())
    beyond = known[int(crossed[0]) :] if len(crossed) else known.new_zeros(1)
    reached = (int(within[0]) + 1) / SAMPLE_RATE if len(within) else None
    return reached, float(beyond.abs().max()), float(errors[SETTLED:].abs().max())
