"""The sine wave's tab: a small network trained once, and its wave beside the steered and the wanted one as SVG."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from pplm.checks import check_range, check_type
from pplm.sine import Oscillator, SineConfig, WaveNetworks, draw, sine_wave, train
from pplm.sine.network import SAMPLE_RATE

SECONDS = 3
"""Length of a wave; drawing it is most of what a visitor waits for."""
SLOWEST, FASTEST = 1.0, 4.0
"""Range of the wanted frequency, in Hz."""
_TEMPLATE = Environment(autoescape=True).from_string(
    """<div class="wave">
<svg viewBox="0 0 {{ width }} 220" preserveAspectRatio="none" role="img" aria-label="{{ label }}">
<path class="zero" d="M0 110H{{ width }}"/><path class="given" d="M{{ given }} 0V220"/>
<path class="wanted" d="{{ wanted }}"/><path class="alone" d="{{ alone }}"/><path class="steered" d="{{ steered }}"/>
</svg>
<p class="ends"><span>0 s</span><span>{{ seconds }} s</span></p>
<ul class="keys"><li><i class="wanted"></i>wanted: {{ frequency }} Hz</li><li><i class="alone"></i>the network alone, \
trained on 2 Hz</li><li><i class="steered"></i>steered, strength {{ strength }}</li></ul>
<p>The mean distance from the wanted wave is {{ errors[0] }} for the network alone and \
<strong>{{ errors[1] }}</strong> for the steered one. Left of the thin line are the ten samples that are given.</p>
</div>"""
)


@dataclass
class WaveTab:
    """Draws waves with one network, which is trained before the first wave.

    Attributes
    ----------
    epochs
        Passes of the training over the wave.

    """

    epochs: int = 200
    _networks: WaveNetworks | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def trained(self) -> bool:
        """Whether the network has been trained."""
        return self._networks is not None

    def picture(self, frequency: float, strength: float) -> Markup:
        """Return the waves for a wanted frequency in Hz and a strength from 0, which leaves the wave alone, to 1.

        Raises
        ------
        InputError
            If one is outside its range.

        """
        frequency, strength = check_wave(frequency, strength)
        with self._lock:
            if self._networks is None:
                self._networks = train([0], epochs=self.epochs)
            count = SECONDS * SAMPLE_RATE
            alone = draw(self._networks, num_samples=count).samples[0]
            config = SineConfig.for_protocol("plug-and-play", step_size=float(strength))
            steered = draw(self._networks, Oscillator(frequency), config, num_samples=count).samples[0]
        wanted = sine_wave(frequency)[:count]
        errors = [f"{float((wave - wanted).abs().mean()):.3f}" for wave in (alone, steered)]
        label = f"A wave wanted at {frequency:g} Hz, the network's own, and the one steered with strength {strength:g}"
        return Markup(  # noqa: S704 - the template escapes
            _TEMPLATE.render(
                width=count - 1,
                given=10,
                wanted=_line(wanted.tolist()),
                alone=_line(alone.tolist()),
                steered=_line(steered.tolist()),
                seconds=SECONDS,
                frequency=f"{frequency:g}",
                strength=f"{strength:g}",
                errors=errors,
                label=label,
            )
        )


def check_wave(frequency: Any, strength: Any) -> tuple[float, float]:
    """Return the frequency and the strength of a wave that can be drawn.

    Raises
    ------
    InputError
        If one is not a number or outside its range.

    """
    frequency, strength = (check_type("a slider", value, float) for value in (frequency, strength))
    check_range("frequency", frequency, SLOWEST, FASTEST)
    check_range("strength", strength, 0, 1)
    return frequency, strength


def _line(wave: Sequence[float]) -> str:
    return "M" + "L".join(f"{place} {110 - 95 * value:.1f}" for place, value in enumerate(wave))
