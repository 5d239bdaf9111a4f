"""The two kinds of run of `pplm sine`, with tables and figures: waves compared with a wanted one, and waves held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from pplm.errors import InputError
from pplm.sine import AmplitudeControl, Oscillator, Reference, SineConfig, WaveAttribute, WaveNetworks, sine_wave
from pplm.sine.experiment import MeasuredWaves, measure_waves
from pplm.sine.held import TOLERANCE, HeldWaves, constant_push, measure_held
from pplm.sine.network import check_wave
from pplm.sine.plot import plot_comparison
from pplm.sine.plot_held import plot_held


class ComparedRun:
    """Unsteered waves beside waves steered by an attribute model that contains the wanted wave or its numbers."""

    measured: MeasuredWaves

    def __init__(
        self, config: SineConfig, attribute: str, frequency: float, amplitude: float, energy_scale: float | None
    ) -> None:
        check_wave(frequency, amplitude)
        self._config, self._frequency, self._amplitude = config, frequency, amplitude
        self._model = _attribute(attribute, frequency, amplitude, energy_scale)
        self.settings: dict[str, Any] = {
            "attribute": attribute,
            "frequency": frequency,
            "amplitude": amplitude,
            "energy_scale": getattr(self._model, "energy_scale", None),
        }

    def draw(self, networks: WaveNetworks, seeds: Sequence[int]) -> None:
        """Draw and measure the waves."""
        wanted = sine_wave(self._frequency, self._amplitude)
        self.measured = measure_waves(networks, seeds, wanted, self._model, self._config)

    def plot(self, path: Path) -> None:
        """Draw the figure."""
        wanted = f"wanted: {self._frequency:g} Hz, amplitude {self._amplitude:g}"
        title = f"{self._config.protocol}, {self.settings['attribute']}, {wanted}"
        plot_comparison(self.measured, path, title=title)

    def table(self) -> Iterator[str]:
        """Yield the table's lines, then its summary."""
        yield "        squared error          frequency (Hz)         amplitude"
        yield "seed    unsteered    steered   unsteered   steered   unsteered   steered"
        for row in self.measured.rows:
            yield (
                f"{row.seed:>4}    {row.unsteered_sse:>9.2f}  {row.steered_sse:>9.4f}   "
                f"{_number(row.unsteered_frequency):>9}   {_number(row.steered_frequency):>7}   "
                f"{row.unsteered_amplitude:>9.3f}   {row.steered_amplitude:>7.3f}"
            )
        count = len(self.measured.rows)
        better = sum(row.steered_sse < row.unsteered_sse for row in self.measured.rows)
        yield f"\nsteered better than unsteered: {better} of {count} seeds"
        for kind in ("unsteered", "steered"):
            errors = [getattr(row, f"{kind}_sse") for row in self.measured.rows]
            off = _off([getattr(row, f"{kind}_frequency") for row in self.measured.rows], self._frequency)
            weak = _off([getattr(row, f"{kind}_amplitude") for row in self.measured.rows], self._amplitude)
            yield (
                f"{kind + ':':<11}squared error median {median(errors):.4g}, worst {max(errors):.4g}; "
                f"frequency within 1.5%: {_within(off, 0.015)}, 5%: {_within(off, 0.05)}, median off by "
                f"{median(off):.2%}; amplitude within 5%: {_within(weak, 0.05)}"
            )


class HeldRun:
    """Waves that a controller holds at an amplitude, beside unsteered ones and ones under a constant push."""

    measured: HeldWaves

    def __init__(self, config: SineConfig, amplitude: float, frequency: float) -> None:
        self._config, self._control = config, AmplitudeControl(amplitude=amplitude, frequency=frequency)
        self.settings: dict[str, Any] = {
            "target_amplitude": amplitude,
            "frequency": frequency,
            "gains": asdict(self._control.gains),
            "constant_push": constant_push(self._control),
        }

    def draw(self, networks: WaveNetworks, seeds: Sequence[int]) -> None:
        """Draw and measure the waves."""
        self.measured = measure_held(networks, seeds, self._control, self._config)

    def plot(self, path: Path) -> None:
        """Draw the figure."""
        plot_held(self.measured, path)

    def table(self) -> Iterator[str]:
        """Yield the table's lines, then its summary."""
        rows, wanted = self.measured.rows, self._control.amplitude
        yield "        amplitude after 2 s                   the controlled wave"
        yield "                    constant                                      largest error"
        yield "seed    unsteered       push   controlled    reached   overshoot      after 2 s   frequency (Hz)"
        for row in rows:
            reached = "never" if row.reached is None else f"{row.reached:.2f} s"
            yield (
                f"{row.seed:>4}    {row.unsteered_amplitude:>9.3f}   {row.constant_amplitude:>8.3f}   "
                f"{row.steered_amplitude:>10.3f}    {reached:>7}   {row.overshoot:>9.1%}   "
                f"{row.largest_error:>12.1%}   {_number(row.steered_frequency):>14}"
            )
        over = [row.overshoot for row in rows]
        held = [row.largest_error for row in rows]
        yield (
            f"\ncontrolled: within {TOLERANCE:.0%} of amplitude {wanted:g} at all times after 2 s: "
            f"{_within(held, TOLERANCE)} seeds; overshoot median {median(over):.1%}, worst {max(over):.1%}"
        )
        for kind in ("unsteered", "constant"):
            off = _off([getattr(row, f"{kind}_amplitude") for row in rows], wanted)
            push = f" push ({self.measured.constant_push:.4f})" if kind == "constant" else ""
            within = f"within {TOLERANCE:.0%} of {wanted:g} over all that time: {_within(off, TOLERANCE)} seeds"
            yield f"{kind}{push}: amplitude after 2 s {within}"


def _attribute(name: str, frequency: float, amplitude: float, energy_scale: float | None) -> WaveAttribute:
    if name == "oscillator":
        scale = {} if energy_scale is None else {"energy_scale": energy_scale}
        return Oscillator(frequency, amplitude, **scale)
    if energy_scale is not None:
        raise InputError("--energy-scale is the oscillator's; leave it out or add --attribute oscillator")
    return Reference(sine_wave(frequency, amplitude))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _off(values: Sequence[float | None], wanted: float) -> list[float]:
    """Return relative errors; a wave without a frequency counts as 1, all of it."""
    return [1.0 if value is None else abs(value / wanted - 1) for value in values]


def _within(off: Sequence[float], limit: float) -> str:
    return f"{sum(value <= limit for value in off)} of {len(off)}"
