"""The loss of training runs beside that of the embedded model's first run, at equal numbers of tokens.

python scripts/loss_curve.py ten-minutes --plot loss.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from pplm.cli import run_command
from pplm.cli.outputs import FILE, check_outputs, overwrite_option
from pplm.errors import InputError
from pplm.files.figures import check_plot, new_figure, save_figure
from pplm.files.tables import markdown_table
from pplm.pretraining.card import RUNNING_MEAN
from pplm.pretraining.training_folder import StepReport, TrainingFolder

EMBEDDED = {
    330_000: 6.33, 1_060_000: 5.67, 3_360_000: 5.22, 6_100_000: 4.87, 8_100_000: 4.59, 10_100_000: 4.44,
    11_900_000: 4.32, 15_800_000: 4.15,
}  # fmt: skip
"""Running mean of the loss by tokens read, of the embedded model's first run (data/gpt2-mini/MODEL_CARD.md)."""


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--plot", type=FILE, help="Also draw the curves to this file: .png, .pdf, .svg.")
@overwrite_option
def loss_curve(folders: Sequence[Path], plot: Path | None, overwrite: bool) -> None:
    """Print the running mean of each run's loss as a Markdown table; FOLDERS are outputs of `pplm train-base`."""
    check_outputs({"--plot": plot}, overwrite=overwrite)
    if plot is not None:
        check_plot(plot)
    runs = {folder.name: _curve(folder) for folder in folders}
    rows = []
    ends = {max(curve): None for curve in runs.values()}
    for tokens, loss in sorted({**ends, **EMBEDDED}.items()):
        cells = [_shown(_at(curve, tokens)) for curve in runs.values()]
        if any(cells):
            rows.append([f"{tokens:,}", _shown(loss), *cells])
    click.echo("\n".join(markdown_table(["tokens", "gpt2-mini, first run", *runs], rows)))
    if plot is not None:
        _draw(runs, plot)


def _curve(folder: Path) -> dict[int, float]:
    """Return the running mean of a run's loss by tokens read."""
    steps: list[StepReport] = TrainingFolder(folder).log()
    if not steps:
        raise InputError(f"{folder} holds no training run; name the --output of pplm train-base")
    losses = [step.loss for step in steps]
    means = [sum(losses[max(0, end - RUNNING_MEAN) : end]) / min(end, RUNNING_MEAN) for end in range(1, len(steps) + 1)]
    return {step.tokens: mean for step, mean in zip(steps, means, strict=True)}


def _at(curve: Mapping[int, float], tokens: int) -> float | None:
    """Return the mean at the last step within this many tokens; None after the run's end."""
    if tokens > max(curve):
        return None
    return next((loss for at, loss in reversed(curve.items()) if at <= tokens), None)


def _shown(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.2f}"


def _draw(runs: Mapping[str, Mapping[int, float]], path: Path) -> None:
    figure = new_figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in runs.items():
        after = {tokens: loss for number, (tokens, loss) in enumerate(curve.items()) if number >= RUNNING_MEAN}
        axes.plot([tokens / 1e6 for tokens in after], list(after.values()), label=name)
    axes.plot([tokens / 1e6 for tokens in EMBEDDED], list(EMBEDDED.values()), "o--", color="0.5",
              label="gpt2-mini, first run")  # fmt: skip
    axes.set(xscale="log", xlabel="million tokens read", ylabel=f"loss, nats per token (mean of {RUNNING_MEAN} steps)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    run_command(loss_curve)
