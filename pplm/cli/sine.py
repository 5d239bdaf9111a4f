"""`pplm sine`: the sine-wave experiment, steering without language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console

from pplm.cli.outputs import FILE, check_outputs, overwrite_option, write_json
from pplm.config import NormRule
from pplm.errors import InputError
from pplm.files.figures import check_plot

if TYPE_CHECKING:
    from torch import Tensor

    from pplm.sine import WaveAttribute
    from pplm.sine.experiment import SineRow

_OVERRIDES = ("step_size", "num_iterations", "gamma", "kl_scale", "norm_rule", "rounds")


@click.command("sine")
@click.option(
    "--seeds",
    type=int,
    default=20,
    show_default=True,
    help="Number of networks, each trained with its own seed: 0, 1, 2, ...",
)
@click.option(
    "--attribute",
    type=click.Choice(["reference", "oscillator"]),
    default="reference",
    show_default=True,
    help="What steers: the wanted wave itself, or a formula that is given only its frequency and amplitude.",
)
@click.option(
    "--frequency",
    type=float,
    default=2.0,
    show_default=True,
    help="Wanted frequency in Hz; the networks are trained on 2.",
)
@click.option(
    "--amplitude",
    type=float,
    default=1.0,
    show_default=True,
    help="Wanted amplitude (0 to 1); the networks are trained on 1.",
)
@click.option(
    "--protocol",
    type=click.Choice(["published", "plug-and-play"]),
    default="plug-and-play",
    show_default=True,
    help="published moves the last layer's weights after each sample of the wave, for good; plug-and-play moves the "
    "hidden activation before each sample.",
)
@click.option(
    "--plot", type=FILE, default=None, help='Draw the figure to this file (.png, .pdf, .svg); needs "pplm[plot]".'
)
@click.option("--output", type=FILE, default=None, help="Write settings and one row per seed to this file, as JSON.")
@overwrite_option
@click.option("--epochs", type=int, default=200, show_default=True, help="How often training goes through the wave.")
@click.option("--step-size", type=float, default=None, help="Length of a step (>= 0).  [default: 1; published 0.05]")
@click.option("--num-iterations", type=int, default=None, help="Steps per round (>= 0).  [default: 1]")
@click.option(
    "--rounds", type=int, default=None, help="Rounds per sample; each halves the steps.  [default: 12; published 1]"
)
@click.option(
    "--gamma",
    type=float,
    default=None,
    help="Exponent of the norm that a gradient is divided by (0 to 2).  [default: 1]",
)
@click.option(
    "--norm-rule",
    type=click.Choice(get_args(NormRule)),
    default=None,
    help="Divide by the gradient's own norm (current) or by the largest so far in the wave (running_max).  "
    "[default: current]",
)
@click.option(
    "--kl-scale",
    type=float,
    default=None,
    help="Weight of the squared distance from the unsteered sample (>= 0).  [default: 0.001; published 0]",
)
@click.option(
    "--energy-scale", type=float, default=None, help="Strength of the oscillator's pull on the amplitude.  [default: 3]"
)
def sine_command(
    seeds: int,
    attribute: str,
    frequency: float,
    amplitude: float,
    plot: Path | None,
    output: Path | None,
    overwrite: bool,
    epochs: int,
    energy_scale: float | None,
    **options: Any,
) -> None:
    """Draw sine waves with small frozen networks, unsteered and steered.

    Each network is trained on a 2 Hz wave, is given ten samples of it and continues them from its own outputs.
    Prints one row per seed: the squared error to the wanted wave over 10 s, and the frequency and amplitude after 2 s.
    """
    from pplm.sine import SineConfig, sine_wave, train
    from pplm.sine.experiment import measure_waves
    from pplm.sine.network import check_wave
    from pplm.sine.plot import plot_comparison

    if seeds < 1:
        raise InputError(f"--seeds must be at least 1; got {seeds}")
    if epochs < 1:
        raise InputError(f"--epochs must be at least 1; got {epochs}")
    check_wave(frequency, amplitude)
    given = {name: options[name] for name in _OVERRIDES if options[name] is not None}
    config = SineConfig.for_protocol(options["protocol"], **given)
    wanted = sine_wave(frequency, amplitude)
    model = _attribute(attribute, wanted, frequency, amplitude, energy_scale)
    check_outputs({"--plot": plot, "--output": output}, overwrite=overwrite)
    if plot is not None:
        check_plot(plot)
    steering = {name: getattr(config if name == "rounds" else config.steering, name) for name in _OVERRIDES}
    click.echo(f"steering: {', '.join(f'{name} {value}' for name, value in steering.items())}", err=True)
    with Console(stderr=True).status(f"training {seeds} networks for {epochs} epochs") as status:
        networks = train(range(seeds), epochs=epochs)
        status.update("drawing unsteered and steered waves")
        comparison = measure_waves(networks, range(seeds), wanted, model, config)
    _show(comparison.rows, frequency, amplitude)
    settings = {
        "attribute": attribute,
        "frequency": frequency,
        "amplitude": amplitude,
        "energy_scale": getattr(model, "energy_scale", None),
        "epochs": epochs,
        "protocol": config.protocol,
        **steering,
    }
    if output is not None:
        write_json("--output", output, {**settings, "rows": [asdict(row) for row in comparison.rows]})
    if plot is not None:
        title = f"{config.protocol}, {attribute}, wanted: {frequency:g} Hz, amplitude {amplitude:g}"
        plot_comparison(comparison, plot, title=title)


def _attribute(
    name: str, wanted: Tensor, frequency: float, amplitude: float, energy_scale: float | None
) -> WaveAttribute:
    from pplm.sine import Oscillator, Reference

    if name == "oscillator":
        scale = {} if energy_scale is None else {"energy_scale": energy_scale}
        return Oscillator(frequency, amplitude, **scale)
    if energy_scale is not None:
        raise InputError("--energy-scale is the oscillator's; leave it out or add --attribute oscillator")
    return Reference(wanted)


def _show(rows: Sequence[SineRow], frequency: float, amplitude: float) -> None:
    """Print the table and what it adds up to."""
    click.echo("        squared error          frequency (Hz)         amplitude")
    click.echo("seed    unsteered    steered   unsteered   steered   unsteered   steered")
    for row in rows:
        click.echo(
            f"{row.seed:>4}    {row.unsteered_sse:>9.2f}  {row.steered_sse:>9.4f}   "
            f"{_number(row.unsteered_frequency):>9}   {_number(row.steered_frequency):>7}   "
            f"{row.unsteered_amplitude:>9.3f}   {row.steered_amplitude:>7.3f}"
        )
    count = len(rows)
    better = sum(row.steered_sse < row.unsteered_sse for row in rows)
    click.echo(f"\nsteered better than unsteered: {better} of {count} seeds")
    for kind in ("unsteered", "steered"):
        errors = [getattr(row, f"{kind}_sse") for row in rows]
        off = _off([getattr(row, f"{kind}_frequency") for row in rows], frequency)
        weak = _off([getattr(row, f"{kind}_amplitude") for row in rows], amplitude)
        click.echo(
            f"{kind + ':':<11}squared error median {median(errors):.4g}, worst {max(errors):.4g}; "
            f"frequency within 1.5%: {_within(off, 0.015)}, 5%: {_within(off, 0.05)}, median off by "
            f"{median(off):.2%}; amplitude within 5%: {_within(weak, 0.05)}"
        )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _off(values: Sequence[float | None], wanted: float) -> list[float]:
    """Return relative errors; a wave without a frequency is off by all of it."""
    return [1.0 if value is None else abs(value / wanted - 1) for value in values]


def _within(off: Sequence[float], limit: float) -> str:
    return f"{sum(value <= limit for value in off)} of {len(off)}"
