"""A wanted amplitude: a controller pushes the wave, sample by sample, until it is as loud as wanted.

The attribute model, `Swing`, does not contain the amplitude; the controller, `pplm.control.Controller`, is the same
that steers a text's level. Letters: B waves, T samples in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.checks import check_range
from pplm.control import Controller, Gains
from pplm.errors import InputError
from pplm.sine.attributes import MAX_PUSH, Swing, oscillation
from pplm.sine.network import GIVEN, TRAINED_FREQUENCY

GAINS = Gains(proportional=0.15, integral=0.0003, low=-0.5, high=0.5)
"""In logarithms the wave is an integrator of gain 1/2, so an error shrinks by about 7% per sample. The integral part
counters a constant pull: the network's towards an amplitude of its own."""
SILENCE = 1e-6
"""A lower measured amplitude counts as this one, because the error is a logarithm."""
SMALLEST = 0.01
"""The smallest amplitude that can be asked for."""
SLOWEST, FASTEST = 0.5, 10.0
"""Hz: a period lasts at most the 2 s after which amplitudes are judged, and at least the ten given samples."""


@dataclass(frozen=True, kw_only=True)
class AmplitudeControl:
    """Holds a wave's amplitude by a controller, which after every sample sets the push of the next one's `Swing`.

        error_t = log(amplitude / A_t),    push_t = the controller's answer to it,    push_0 = 0

    with A_t the amplitude of the ten samples before, `recent_amplitude`. The logarithm makes the loop the same for
    every amplitude: a push changes the logarithm by push / 2 per sample, however loud the wave is.

    Attributes
    ----------
    amplitude
        The wanted amplitude: at least 0.01, and at most 1, the largest that the network's tanh can emit.
    frequency
        Hz, 0.5 to 10.
    gains
        The controller's gains, and the bounds of the push, which must lie between -1 and 0.5 and include 0.

    Raises
    ------
    InputError
        If a value is outside its range.

    """

    amplitude: float
    frequency: float = TRAINED_FREQUENCY
    gains: Gains = GAINS

    def __post_init__(self) -> None:
        """Check frequency, amplitude and bounds."""
        check_range("the target's frequency", self.frequency, SLOWEST, FASTEST)
        check_range("the target amplitude", self.amplitude, SMALLEST, 1)
        if not -1 <= self.gains.low <= 0 <= self.gains.high <= MAX_PUSH:
            raise InputError(
                f"the gains' bounds must include 0 and lie between -1 and {MAX_PUSH}; "
                f"got {self.gains.low} and {self.gains.high}"
            )

    def start(self, waves: int) -> Callable[[Tensor], Swing]:
        """Return, for B waves, a function from the samples (B, t) so far to the next sample's attribute model."""
        controller = Controller(self.gains, torch.zeros(waves, dtype=torch.float64))

        def choose(past: Tensor) -> Swing:
            error = (self.amplitude / recent_amplitude(past, self.frequency).clamp(min=SILENCE)).log()
            return Swing(self.frequency, controller.update(error))

        return choose


def recent_amplitude(past: Tensor, frequency: float) -> Tensor:
    """Return the amplitude (B,) of the last ten samples: the root of the mean energy of their neighbours."""
    windows = past[:, -GIVEN:].unfold(1, 3, 1)
    _, energy = oscillation(windows[..., 2], windows[..., :2], frequency)
    return energy.mean(1).sqrt()
