"""Plug-and-play steering without language: a small network that draws a sine wave, held on course while it draws.

The experiment is the one published beside the method: a network of two layers is trained on a 2 Hz wave, is fed its
own outputs, and drifts. It is the second caller of `pplm.steering.steer`, in which every part can be plotted: the
"text" is a wave, the "token" one of its samples, the attribute model a formula. A batch holds B waves, of B networks
with their own weights, which train and run at once. Letters: B waves, T samples in time, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pplm.checks import check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.short_repr import ShortRepr
from pplm.sine.amplitude import AmplitudeControl
from pplm.sine.attributes import Swing, WaveAttribute
from pplm.sine.network import GIVEN, NUM_SAMPLES, WaveNetworks, one_thread, sine_wave
from pplm.steering import State, steer

SteeringProtocol = Literal["published", "plug-and-play"]
"""`published` moves the last layer's weights after a sample is emitted; `plug-and-play` moves the hidden activation
before that, as the language side moves the history before it draws a token."""
MAX_ROUNDS = 50
"""In further rounds the halved steps would be too small for float64 to add."""


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
        Rounds of `num_iterations` steps per sample (1 to 50), each with steps half as long as in the round before.
        With gamma 1 a step near a peak, where tanh has hardly any gradient, is as long as anywhere else. So it can
        reach the peak but also overshoots, and the halving makes it converge.

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
        for name in ("strength", "target"):
            if name in overrides:
                raise InputError(f"{name} is a setting of text; a wave takes step_size, or an AmplitudeControl")
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
        (B, T): the waves, the given samples included.
    attribute_loss
        (B, T): of every emitted sample; 0 for given samples and without an attribute model.
    divergence
        (B, T): squared distance of every emitted sample from what the network alone would have emitted there.
    push
        (B, T): the push of every emitted sample's `Swing`; 0 for given samples and other attribute models.

    """

    samples: Tensor
    attribute_loss: Tensor
    divergence: Tensor
    push: Tensor


@one_thread()
def draw(
    networks: WaveNetworks,
    attribute: WaveAttribute | AmplitudeControl | None = None,
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
        None draws the unsteered waves; an `AmplitudeControl` chooses the attribute model of every sample.
    config
        None takes the plug-and-play protocol's settings.
    num_samples
        Length of the waves, the ten given samples included.

    Raises
    ------
    InputError
        If `num_samples` is below 10, an `AmplitudeControl` is used with the published protocol, or steps are so long
        that a wave is no longer finite.

    """
    if num_samples < GIVEN:
        raise InputError(f"num_samples must be at least {GIVEN}, the given samples; got {num_samples}")
    config = config or SineConfig.for_protocol("plug-and-play")
    published, rounds = config.protocol == "published", config.round_settings()
    past = sine_wave()[:GIVEN].repeat(len(networks.output_bias), 1)
    if published and isinstance(attribute, AmplitudeControl):
        raise InputError("an AmplitudeControl needs the plug-and-play protocol; protocol is 'published'")
    choose = attribute.start(len(past)) if isinstance(attribute, AmplitudeControl) else lambda _: attribute
    nothing = torch.zeros_like(past[:, 0])
    emitted = [(nothing, nothing, nothing)] * GIVEN  # attribute loss, divergence and push of every sample
    weight, norms = networks.output_weight, None
    with torch.no_grad():
        while past.shape[1] < num_samples:
            hidden = networks.hidden(past)
            unsteered = networks.output(hidden)
            sample = networks.output(hidden, weight)
            attribute_loss = push = nothing
            if (model := choose(past)) is not None:
                loss = partial(_losses, model, past, unsteered)
                if published:  # too late for the sample just emitted; the weights are moved for the next ones
                    weight, norms = _steer(weight, partial(networks.output, hidden), loss, rounds, norms)
                else:
                    hidden, norms = _steer(hidden, networks.output, loss, rounds, norms)
                    sample = networks.output(hidden)
                attribute_loss = model.loss(sample, past)
                push = nothing + model.push if isinstance(model, Swing) else nothing
            emitted.append((attribute_loss, (sample - unsteered) ** 2, push))
            past = torch.cat([past, sample[:, None]], dim=1)
    if not torch.isfinite(past).all():
        raise InputError(f"steering led to infinite numbers; lower step_size (now {config.steering.step_size:g})")
    return DrawnWaves(past, *(torch.stack(part, dim=1) for part in zip(*emitted, strict=True)))


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
