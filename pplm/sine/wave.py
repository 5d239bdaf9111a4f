"""Plug-and-play steering without language: a small network that draws a sine wave, held on course while it draws.

The experiment is the one published beside the method: a network of two layers is trained on a 2 Hz wave, is fed its
own outputs, and drifts. It is the second caller of `pplm.steering.steer`, and here every part can be seen: the
"text" is a wave, the "token" a sample, the attribute model a formula. A wave is a sample of a batch, so B networks,
each with its own weights, train and run at once. Letters: B waves, T samples in time, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from pplm.checks import check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.short_repr import ShortRepr
from pplm.sine.network import GIVEN, NUM_SAMPLES, SAMPLE_RATE, WaveNetworks, check_wave, one_thread, sine_wave
from pplm.steering import State, steer

SteeringProtocol = Literal["published", "plug-and-play"]
"""`published` moves the last layer's weights after a sample is out; `plug-and-play` moves the hidden activation
before, as the language side moves the history before it draws a token."""
MAX_ROUNDS = 50
"""More would halve the steps below what float64 can add to a number."""


class WaveAttribute(Protocol):
    """An attribute model of waves: says how far a sample is from what is wanted."""

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
    """A formula without any true sample, only of the wave's frequency and amplitude.

    Every sampled sine of angle w = 2 pi f / rate obeys x_t = 2 cos(w) x_{t-1} - x_{t-2}, and any two neighbours tell
    its amplitude: E_t = (x_t^2 - 2 cos(w) x_t x_{t-1} + x_{t-1}^2) / sin(w)^2 = A^2. The loss is

        (x_t - 2 cos(w) x_{t-1} + x_{t-2})^2 + energy_scale * (sin(w) (E_t - A^2) / (2 A))^2

    with the network's own past samples. The recurrence alone never forgets an error, so that amplitude and phase
    wander; the energy pulls the amplitude back. Its factor sin(w) / 2A makes it, like the first term, an error of
    the sample: at a zero crossing, where the energy sees the sample best, its slope is 1 as well.

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
        angle = 2 * math.pi * self.frequency / SAMPLE_RATE
        cos, sin = math.cos(angle), math.sin(angle)
        before, last = past[:, -2], past[:, -1]
        recurrence = sample - 2 * cos * last + before
        energy = (sample**2 - 2 * cos * sample * last + last**2) / sin**2
        energy_error = sin * (energy - self.amplitude**2) / (2 * self.amplitude)
        return recurrence**2 + self.energy_scale * energy_error**2


@dataclass(frozen=True, kw_only=True)
class SineConfig:
    """How a wave is steered; `for_protocol` gives each protocol's settings.

    Attributes
    ----------
    protocol
        What is moved, and whether before or after the sample is emitted: see `SteeringProtocol`.
    steering
        `step_size`, `num_iterations`, `gamma`, `kl_scale` and `norm_rule` act; the other fields are about text. The
        divergence that `kl_scale` weighs is the squared distance from the unsteered sample.
    rounds
        Rounds of `num_iterations` steps a sample (1 to 50), each with steps half as long as in the round before.
        With gamma 1 a step is as long near a peak, where tanh has all but lost its gradient, as anywhere else; so
        it reaches, but also overshoots, and the halving is what makes it arrive.

    """

    protocol: SteeringProtocol
    steering: SteeringConfig
    rounds: int = 1

    def __post_init__(self) -> None:
        """Check every field that `SteeringConfig` does not."""
        if self.protocol not in get_args(SteeringProtocol):
            raise InputError(f"protocol must be one of {', '.join(get_args(SteeringProtocol))}; got {self.protocol!r}")
        if check_whole("rounds", self.rounds, 1) > MAX_ROUNDS:
            raise InputError(f"rounds must be a whole number between 1 and {MAX_ROUNDS}; got {self.rounds}")

    def round_settings(self) -> list[SteeringConfig]:
        """Return each round's settings: the step size halves from round to round."""
        steering = self.steering
        return [replace(steering, step_size=steering.step_size / 2**number) for number in range(self.rounds)]

    @classmethod
    def for_protocol(cls, protocol: SteeringProtocol, **overrides: Any) -> SineConfig:
        """Return a protocol's settings, with `rounds` or single fields of `SteeringConfig` overridden."""
        published = protocol == "published"
        rounds = overrides.pop("rounds", 1 if published else 12)
        steering: dict[str, Any] = {"num_iterations": 1, "gamma": 1.0, "norm_rule": "current"}
        steering |= {"step_size": 0.05, "kl_scale": 0.0} if published else {"step_size": 1.0, "kl_scale": 0.001}
        return cls(protocol=protocol, steering=SteeringConfig(**{**steering, **overrides}), rounds=rounds)


@dataclass(frozen=True, repr=False)
class DrawnWaves(ShortRepr):
    """What `draw` returns.

    Attributes
    ----------
    samples
        (B, T), the given ones included.
    attribute_loss
        (B, T): of every emitted sample; 0 for given samples and without an attribute model.
    divergence
        (B, T): squared distance of every emitted sample from what the network alone would have emitted there.

    """

    samples: Tensor
    attribute_loss: Tensor
    divergence: Tensor


@one_thread()
def draw(
    networks: WaveNetworks,
    attribute: WaveAttribute | None = None,
    config: SineConfig | None = None,
    *,
    num_samples: int = NUM_SAMPLES,
) -> DrawnWaves:
    """Let every network continue the ten given samples, each output fed back to it, steered by an attribute model.

    Parameters
    ----------
    networks
        Not changed: the published protocol moves a copy of the output weights.
    attribute
        None draws the unsteered waves.
    config
        None takes the plug-and-play protocol's settings.
    num_samples
        Length of the waves, the ten given samples included.

    Raises
    ------
    InputError
        If `num_samples` is below 10, or steps are so long that a wave stops being a number.

    """
    if num_samples < GIVEN:
        raise InputError(f"num_samples must be at least {GIVEN}, the given ones; got {num_samples}")
    config = config or SineConfig.for_protocol("plug-and-play")
    published, rounds = config.protocol == "published", config.round_settings()
    past = sine_wave()[:GIVEN].repeat(len(networks.output_bias), 1)
    losses, divergences = [torch.zeros_like(past)], [torch.zeros_like(past)]
    weight, norms = networks.output_weight, None
    with torch.no_grad():
        while past.shape[1] < num_samples:
            hidden = networks.hidden(past)
            unsteered = networks.output(hidden)
            sample = networks.output(hidden, weight)
            if attribute is not None:
                loss = partial(_losses, attribute, past, unsteered)
                if published:  # what was just emitted is corrected too late, for the next samples
                    weight, norms = _steer(weight, partial(networks.output, hidden), loss, rounds, norms)
                else:
                    hidden, norms = _steer(hidden, networks.output, loss, rounds, norms)
                    sample = networks.output(hidden)
                losses.append(attribute.loss(sample, past)[:, None])
            divergences.append((sample - unsteered)[:, None] ** 2)
            past = torch.cat([past, sample[:, None]], dim=1)
    if not torch.isfinite(past).all():
        raise InputError(f"steering led to infinite numbers; lower step_size (now {config.steering.step_size:g})")
    attribute_loss = torch.cat(losses, dim=1) if attribute is not None else torch.zeros_like(past)
    return DrawnWaves(samples=past, attribute_loss=attribute_loss, divergence=torch.cat(divergences, dim=1))


def _losses(attribute: WaveAttribute, past: Tensor, unsteered: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
    return attribute.loss(sample, past), (sample - unsteered) ** 2


def _steer(
    state: Tensor,
    emit: Callable[[Tensor], Tensor],
    losses: Callable[[Tensor], tuple[Tensor, Tensor]],
    rounds: Sequence[SteeringConfig],
    norms: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Move one tensor (B, H), from which `emit` makes the sample, through every round of the core's steps."""

    def objective(moved: State) -> tuple[Tensor, Tensor]:
        return losses(emit(moved[0][0]))

    for settings in rounds:
        steered = steer([[state]], objective, settings, norms)
        state, norms = steered.state[0][0], steered.norms
    return state, norms
