"""The `pplm` command: its sub-commands, and how their errors are shown."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.logging import RichHandler
from transformers.utils import logging as transformers_logging

from pplm.cli.benchmark import benchmark_command
from pplm.cli.classify import classify_command
from pplm.cli.evaluate import evaluate_command
from pplm.cli.generate import generate_command
from pplm.cli.score import score_command
from pplm.cli.sine import sine_command
from pplm.cli.sweep import sweep_command
from pplm.cli.train_base import train_base_command
from pplm.cli.train_discriminator import train_command
from pplm.errors import InputError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="pplm")
def pplm() -> None:
    """Steer a language model while it writes, without training it.

    Start with: pplm generate "The lake" --bag space
    """


for _command in (
    generate_command,
    train_command,
    classify_command,
    score_command,
    evaluate_command,
    sweep_command,
    sine_command,
    benchmark_command,
    train_base_command,
):
    pplm.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `pplm`; without arguments those of the process."""
    run_command(pplm, arguments, name="pplm")


def run_command(command: click.Command, arguments: Sequence[str] | None = None, *, name: str | None = None) -> None:
    """Run a command and exit: 0 done, 2 wrong input (one line on stderr), 130 interrupted.

    Commands find their arguments, as they were written, in the context's `obj`. Of several processes of
    `accelerate launch` only the first one says what is wrong.
    """
    _log_to_stderr()
    transformers_logging.disable_progress_bar()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command.main(args=arguments, prog_name=name, standalone_mode=False, obj=tuple(arguments))
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        _tell(f"Error: {' '.join(message.split())}")
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _tell("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stderr.close()
        sys.exit(0)


def _tell(message: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        click.echo(message, err=True)


def _log_to_stderr() -> None:
    handler = RichHandler(
        console=Console(stderr=True, soft_wrap=True),
        show_time=False,
        show_path=False,
        show_level=False,
        markup=False,
    )
    for name in ("pplm", "attribute_models"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
