"""The small networks of the sine-wave experiment: their wave, how B of them are trained, and what one computes.

Nothing here depends on steering. Letters: B waves or networks, T samples in time, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from pplm.checks import check_whole
from pplm.errors import InputError
from pplm.seeds import torch_seed
from pplm.short_repr import ShortRepr

SAMPLE_RATE = 100
"""Samples per second (the article's prose says 10, its notebook and its figures use 100)."""
TRAINED_FREQUENCY = 2.0
"""Hz, of the wave that the networks are trained on and of the given samples, whatever wave is wanted later."""
NUM_SAMPLES = 1000
"""Samples of a wave: 10 s."""
GIVEN = 10
"""How many samples are given before the network continues, and how many of the last samples it reads."""
HIDDEN = 64
ADAM_EPSILON = 1e-7
"""Keras's default, as in the published notebook; PyTorch's is 1e-8."""


@dataclass(frozen=True, repr=False)
class WaveNetworks(ShortRepr):
    """B networks Dense(10 -> 64, ReLU) -> Dense(64 -> 1, tanh), frozen; network b continues wave b.

    Attributes
    ----------
    hidden_weight, hidden_bias
        (B, 10, H) and (B, H).
    output_weight, output_bias
        (B, H) and (B,).

    """

    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor

    def hidden(self, past: Tensor) -> Tensor:
        """Return the hidden activation (B, H) after `past` (B, t)."""
        window = past[:, -GIVEN:]
        return torch.relu(torch.einsum("bi,bih->bh", window, self.hidden_weight) + self.hidden_bias)

    def output(self, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the next sample (B,) for a hidden activation (B, H), or for other output weights (B, H)."""
        weight = self.output_weight if weight is None else weight
        return torch.tanh((hidden * weight).sum(1) + self.output_bias)


def check_wave(frequency: float, amplitude: float = 1.0) -> None:
    """Refuse a wave that cannot be sampled at this rate, or that the network cannot emit."""
    if not 0 < frequency < SAMPLE_RATE / 2:
        limit = f"{SAMPLE_RATE / 2:g} Hz, half the {SAMPLE_RATE} samples per second"
        raise InputError(f"frequency must be above 0 and below {limit}; got {frequency:g}")
    if not 0 < amplitude <= 1:
        raise InputError(f"amplitude must be above 0 and at most 1, the largest that tanh emits; got {amplitude:g}")


def sine_wave(frequency: float = TRAINED_FREQUENCY, amplitude: float = 1.0, num_samples: int = NUM_SAMPLES) -> Tensor:
    """Return a wanted wave (T,): the given samples at the trained 2 Hz, then this frequency and amplitude.

    The phase does not jump where the frequency changes. At 2 Hz and amplitude 1 it is the plain sine.
    """
    check_wave(frequency, amplitude)
    time = torch.arange(num_samples, dtype=torch.float64)
    given, after = time.clamp(max=GIVEN - 1), (time - (GIVEN - 1)).clamp(min=0)
    phase = 2 * math.pi * (TRAINED_FREQUENCY * given + frequency * after) / SAMPLE_RATE
    return torch.where(time < GIVEN, 1.0, amplitude) * torch.sin(phase)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread; with matrices this small, more threads only wait for each other, at worst for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train(seeds: Iterable[int], *, epochs: int = 200) -> WaveNetworks:
    """Train one network per seed on the 2 Hz wave, all as one batch; each comes out as if trained alone.

    As published: 90 windows of 11 samples that do not overlap (10 in, 1 out), Adam, squared error, one window per step,
    and Keras's defaults for what the notebook leaves open (Glorot uniform, biases 0, a new order in each epoch).
    Deviation: float64 instead of float32, so that the 18,000 steps end at the same weights on every machine.

    Raises
    ------
    InputError
        If there is no seed, a seed is not a whole number of at least 0, or `epochs` is below 1.

    """
    epochs = check_whole("epochs", epochs, 1)
    generators = [torch.Generator().manual_seed(torch_seed(check_whole("each of seeds", seed))) for seed in seeds]
    if not generators:
        raise InputError("seeds is empty; give at least one")
    hidden_weight = torch.stack([_glorot(GIVEN, HIDDEN, generator) for generator in generators])
    output_weight = torch.stack([_glorot(HIDDEN, 1, generator) for generator in generators]).squeeze(2)
    biases = torch.zeros_like(output_weight), torch.zeros_like(output_weight[:, 0])
    networks = WaveNetworks(hidden_weight, biases[0], output_weight, biases[1])
    parameters = [getattr(networks, field.name).requires_grad_() for field in fields(networks)]
    # Adam works number by number and the losses are summed, so no network's step depends on another's.
    optimizer = torch.optim.Adam(parameters, lr=1e-3, eps=ADAM_EPSILON, foreach=False, fused=True)
    num_windows = NUM_SAMPLES // (GIVEN + 1)
    windows = sine_wave()[: num_windows * (GIVEN + 1)].view(num_windows, GIVEN + 1)
    for _ in range(epochs):
        order = torch.stack([torch.randperm(num_windows, generator=generator) for generator in generators])
        for window in windows[order].unbind(1):
            optimizer.zero_grad()
            with torch.enable_grad():
                sample = networks.output(networks.hidden(window[:, :GIVEN]))
                ((sample - window[:, GIVEN]) ** 2).sum().backward()
            optimizer.step()
    return WaveNetworks(*(parameter.detach() for parameter in parameters))


def _glorot(inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty(inputs, outputs, dtype=torch.float64), generator=generator)
