"""`pplm train-base`: trains a small GPT-2 on texts of the user's."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from pplm.cli.options import field_options, given_fields, join_processes
from pplm.errors import InputError
from pplm.files.lock import folder_lock
from pplm.files.progress import OnProgress, progress_bar
from pplm.pretraining.settings import Architecture, TrainingSettings

if TYPE_CHECKING:
    from pplm.pretraining import BaseModelReport, StepReport

EMBEDDED_MINUTES = 98.0
"""How long the first run of the embedded model took, on two cores."""
_RECENT = 50
"""The progress bar shows loss and speed as means over this many steps."""


@click.command("train-base")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCES...")
@click.option("--output", required=True, metavar="DIR", help="New folder for the model.")
@click.option(
    "--resume", is_flag=True, help="Resume the interrupted run in --output; repeat its other options unchanged."
)
@click.option(
    "--validation",
    multiple=True,
    metavar="FILE",
    help="Text to measure the model on, which it is not trained on. Repeatable.  [default: some documents of SOURCES]",
)
@click.option("--text-column", default="text", show_default=True, help="Column of a hub data set.")
@click.option("--config", default=None, help="Configuration of a hub data set.")
@click.option("--split", default="train", show_default=True, help="Split of a hub data set; train[:1%] takes a part.")
@click.option("--init", default=None, metavar="MODEL", help="Train this GPT-2 further, with its tokenizer.")
@click.option(
    "--tokenizer",
    default=None,
    metavar="MODEL",
    help="Use this model's tokenizer.  [default: a new one, trained on the texts]",
)
@click.option(
    "--embeddings-from",
    default=None,
    metavar="MODEL",
    help="Start from the token embeddings of this model, whatever its tokenizer and width; the loss falls faster at "
    "first.",
)
@field_options(TrainingSettings, show_defaults=True)
@field_options(Architecture, show_defaults=True)
def train_base_command(output: str, resume: bool, **options: Any) -> None:
    """Train a small GPT-2 on SOURCES: text files, or ids of data sets on the hub.

    Text files are UTF-8, also compressed (.xz, .gz, .bz2), with a line <|endoftext|> between documents. Without
    --minutes or --steps it trains for 98 minutes, like the first run of the embedded model.

    DIR/training/ holds what --resume needs, and log.jsonl with one line per step; delete it when training is done. To
    go on after an interruption, repeat the command with --resume. Several processes: accelerate launch -m pplm
    train-base ...
    """
    from pplm.pretraining import BaseModelRequest, train_base_model

    shape = given_fields(Architecture, options)
    given = given_fields(TrainingSettings, options)
    if not given.keys() & {"minutes", "steps"}:
        given["minutes"] = EMBEDDED_MINUTES
    settings = TrainingSettings(**given)
    _check_shape(shape, options)
    options |= {name: tuple(options[name]) for name in ("sources", "validation")}
    request = BaseModelRequest(**options, command=shlex.join(["pplm", *click.get_current_context().obj]))
    processes, _ = join_processes("auto")
    try:
        shown = progress_bar("training", shown=processes.main)
        with folder_lock(output, on_main=processes.on_main), shown as on_progress:
            report = train_base_model(
                request,
                output,
                settings=settings,
                architecture=Architecture(**shape) if shape or not request.init else None,
                resume=resume,
                on_step=_show_step(settings, on_progress),
                processes=processes,
            )
    except KeyboardInterrupt:
        if processes.main:
            click.echo("stopped; repeat the command with --resume to go on from the last checkpoint", err=True)
        raise
    if processes.main:
        click.echo(_result(report, output))


def _check_shape(shape: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse sizes that --init or --tokenizer already determines."""
    for name in shape:
        if options["init"] or (options["tokenizer"] and name == "vocab_size"):
            other = f"--init {options['init']}" if options["init"] else f"--tokenizer {options['tokenizer']}"
            raise InputError(f"{other} has its own {name}; leave out --{name.replace('_', '-')}")


def _show_step(settings: TrainingSettings, on_progress: OnProgress) -> Callable[[StepReport], None]:
    """Return a function that shows each step."""
    recent: deque[StepReport] = deque(maxlen=_RECENT)

    def on_step(report: StepReport) -> None:
        recent.append(report)
        on_progress(report.done, 1, _state(settings, list(recent)))

    return on_step


def _state(settings: TrainingSettings, recent: list[StepReport]) -> str:
    """Return how the last steps went, in one line: mean loss, speed and the time left."""
    first, last = recent[0], recent[-1]
    loss = sum(report.loss for report in recent) / len(recent)
    state = f"step {last.step:,}, loss {loss:.3f}"
    if last.seconds > first.seconds:
        speed = (last.tokens - first.tokens) / (last.seconds - first.seconds)
        left = round(_seconds_left(settings, last, speed))
        state += f", {speed:,.0f} tokens/s, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
    return state


def _seconds_left(settings: TrainingSettings, last: StepReport, speed: float) -> float:
    """Return the rest of a budget of time, or how long the remaining steps take at this speed (tokens per second)."""
    if settings.steps is None:
        return 60 * (settings.minutes or 0) * (1 - last.done)
    early = max(0, -(-settings.steps // 2) - last.step)
    late = settings.steps - last.step - early
    return (early * settings.tokens_per_step + late * settings.late_tokens_per_step) / speed


def _result(report: BaseModelReport, output: str) -> str:
    found = report.validation
    return (
        f"written to {output}: {found.nats_per_token:.3f} nats per token, perplexity {found.perplexity:.1f}, "
        f"{found.bits_per_character:.3f} bits per character on {found.characters:,} characters of validation text"
    )
