"""The controller's response to a changed target, on a synthetic plant: a first-order lag with several gains.

python scripts/control_plot.py --plot control.png
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import Tensor

from pplm.cli import run_command
from pplm.cli.outputs import FILE, check_outputs, overwrite_option
from pplm.control import Controller, Gains
from pplm.files.figures import check_plot, new_figure, save_figure
from pplm.files.tables import markdown_table

GAINS = Gains(proportional=0.5, integral=0.2)
PLANT_GAINS = (0.7, 1.0, 2.0)
LAG = 0.5
BEFORE, AFTER = 40, 80
"""Time steps before and after the target changes."""
OUT_OF_REACH, WITHIN_REACH = 1.5, 0.5
SETTLED = 0.05
"""A level has settled once it stays within this share of the target."""


class SummedController:
    """The textbook form, for comparison: it keeps the sum of all errors beside the push, without a bound."""

    def __init__(self, gains: Gains, push: Tensor) -> None:
        self.gains, self.sum = gains, torch.zeros_like(push)

    def update(self, error: Tensor) -> Tensor:
        """Return the push (B,) after an error (B,)."""
        self.sum = self.sum + error
        push = self.gains.proportional * error + self.gains.integral * self.sum
        return push.clamp(self.gains.low, self.gains.high)


@click.command()
@click.option("--plot", type=FILE, help="Also draw targets, levels and pushes to this file: .png, .pdf, .svg.")
@overwrite_option
def control_plot(plot: Path | None, overwrite: bool) -> None:
    """Print a Markdown table: how a controller reaches a target, and how it recovers from one out of reach."""
    check_outputs({"--plot": plot}, overwrite=overwrite)
    if plot is not None:
        check_plot(plot)
    step = _targets(0.3, 0.6)
    reach = _targets(OUT_OF_REACH, WITHIN_REACH)
    gains = torch.tensor(PLANT_GAINS)
    runs = {f"plant gain {gain:g}": (step, *_run(Controller, step, gain)) for gain in gains}
    windup = {
        "velocity form (pplm)": (reach, *_run(Controller, reach, gains[1])),
        "summed errors": (reach, *_run(SummedController, reach, gains[1])),
    }
    rows = [[name, *_measured(*run)] for name, run in {**runs, **windup}.items()]
    click.echo("\n".join(markdown_table(["", "target", "steps until settled", "beyond the target", "push"], rows)))
    if plot is not None:
        _draw({"step response": runs, "a target out of reach, then within reach": windup}, plot)


def _targets(before: float, after: float) -> Tensor:
    return torch.cat([torch.full((BEFORE,), before), torch.full((AFTER,), after)])


def _run(kind: type[Controller | SummedController], targets: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Return levels and pushes, each (T,), of a plant y <- LAG y + (1 - LAG) gain u under control."""
    level = torch.zeros(1)
    controller = kind(GAINS, level)
    levels, pushes = [], []
    for target in targets:
        push = controller.update(target - level)
        level = LAG * level + (1 - LAG) * gain * push
        levels.append(level)
        pushes.append(push)
    return torch.cat(levels), torch.cat(pushes)


def _measured(target: Tensor, level: Tensor, push: Tensor) -> list[str]:
    """Return cells: both targets, steps until the level settled at the last, its overshoot, and the range of pushes."""
    errors = (level[BEFORE:] / target[-1] - 1) * (target[-1] - target[0]).sign()
    away = torch.nonzero(errors.abs() > SETTLED)
    settled = int(away[-1]) + 1 if len(away) else 0
    steps = str(settled) if settled < AFTER else "never"
    beyond = f"{errors.max().clamp(min=0):.1%}"
    return [f"{target[0]:g} to {target[-1]:g}", steps, beyond, f"{push.min():.2f} to {push.max():.2f}"]


def _draw(columns: dict[str, dict[str, tuple[Tensor, Tensor, Tensor]]], path: Path) -> None:
    figure = new_figure(figsize=(8.2, 4.6), layout="constrained")
    axes = figure.subplots(2, len(columns), sharex=True, height_ratios=[3, 2])
    for column, (title, runs) in enumerate(columns.items()):
        for number, (name, (target, level, push)) in enumerate(runs.items()):
            if number == 0:
                axes[0, column].step(
                    range(len(target)), target, where="post", color="0.75", linewidth=3, label="target"
                )
            axes[0, column].plot(level, label=name, linewidth=1.5)
            axes[1, column].plot(push, linewidth=1.5)
        axes[0, column].set_title(title, fontsize="medium")
        axes[0, column].legend(frameon=False, fontsize="small")
        axes[1, column].set(ylim=(-0.05, 1.1), xlabel="time step")
        axes[1, column].axhline(GAINS.high, color="0.6", linewidth=0.8, linestyle=":")
    axes[0, 0].set_ylabel("level")
    axes[1, 0].set_ylabel("push (0 to 1)")
    save_figure(figure, path)


if __name__ == "__main__":
    run_command(control_plot)
