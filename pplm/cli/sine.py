"""`pplm sine`: the sine-wave experiment, steering without language."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from pplm.cli.outputs import FILE, check_outputs, overwrite_option, write_json
from pplm.errors import InputError
from pplm.files.figures import check_plot
from pplm.step import NormRule

_OVERRIDES = ("step_size", "num_iterations", "gamma", "kl_scale", "norm_rule", "rounds")
_NOT_HELD = {"attribute": "--attribute", "amplitude": "--amplitude", "energy_scale": "--energy-scale"}
"""Options of other attribute models than the controller's."""


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
    "--target-amplitude",
    type=float,
    default=None,
    help="Let a controller hold this amplitude (0.01 to 1), by a push that makes the wave louder or quieter. Takes the "
    "place of --attribute and --amplitude.",
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
@click.option("--epochs", type=int, default=200, show_default=True, help="Passes of the training over the wave.")
@click.option("--step-size", type=float, default=None, help="Length of a step (>= 0).  [default: 1; published 0.05]")
@click.option("--num-iterations", type=int, default=None, help="Steps per round (>= 0).  [default: 1]")
@click.option(
    "--rounds",
    type=int,
    default=None,
    help="Rounds per sample, each with steps half as long as those before.  [default: 12; published 1]",
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
    target_amplitude: float | None,
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
    With --target-amplitude it prints how soon and how well the wanted amplitude is held, beside the network alone and
    the same attribute model under a constant push.
    """
    from pplm.cli.sine_runs import ComparedRun, HeldRun
    from pplm.sine import SineConfig, train

    if seeds < 1:
        raise InputError(f"--seeds must be at least 1; got {seeds}")
    if epochs < 1:
        raise InputError(f"--epochs must be at least 1; got {epochs}")
    given = {name: options[name] for name in _OVERRIDES if options[name] is not None}
    config = SineConfig.for_protocol(options["protocol"], **given)
    if target_amplitude is not None:
        _check_held(options["protocol"])
        run: HeldRun | ComparedRun = HeldRun(config, target_amplitude, frequency)
    else:
        run = ComparedRun(config, attribute, frequency, amplitude, energy_scale)
    check_outputs({"--plot": plot, "--output": output}, overwrite=overwrite)
    if plot is not None:
        check_plot(plot)
    steering = {name: getattr(config if name == "rounds" else config.steering, name) for name in _OVERRIDES}
    click.echo(f"steering: {', '.join(f'{name} {value}' for name, value in steering.items())}", err=True)
    with Console(stderr=True).status(f"training {seeds} networks for {epochs} epochs") as status:
        networks = train(range(seeds), epochs=epochs)
        status.update("drawing unsteered and steered waves")
        run.draw(networks, range(seeds))
    for line in run.table():
        click.echo(line)
    if output is not None:
        settings = {**run.settings, "epochs": epochs, "protocol": config.protocol, **steering}
        write_json("--output", output, {**settings, "rows": [asdict(row) for row in run.measured.rows]})
    if plot is not None:
        run.plot(plot)


def _check_held(protocol: str) -> None:
    """Refuse options that have no meaning beside --target-amplitude."""
    context = click.get_current_context()
    for name, option in _NOT_HELD.items():
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise InputError(
                f"{option} has no meaning with --target-amplitude, which steers by a formula of its own; "
                "leave one of them out"
            )
    if protocol != "plug-and-play":
        raise InputError(f"--target-amplitude needs --protocol plug-and-play; got {protocol}")
