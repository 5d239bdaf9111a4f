"""The `pplm` command: its sub-commands, and how their errors and warnings are shown."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

import click
from rich.console import Console
from rich.logging import RichHandler

from pplm.cli import (
    benchmark,
    chat,
    classify,
    evaluate,
    explain,
    generate,
    score,
    serve,
    sine,
    sweep,
    train_base,
    train_discriminator,
    tune,
    web,
)
from pplm.errors import InputError, SteeringWarning

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk or quota, whichever file a command is writing."""
_format_others = warnings.formatwarning
_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""Given to every command itself, not inherited: click keeps the help option that a command had at its first use."""


@click.group(context_settings=_HELP)
@click.version_option(package_name="pplm")
def pplm() -> None:
    """Steer a language model while it writes, without training it.

    Start with: pplm generate "The lake" --bag space
    """


for _command in (
    generate.generate_command,
    explain.explain_command,
    chat.chat_command,
    train_discriminator.train_command,
    classify.classify_command,
    score.score_command,
    evaluate.evaluate_command,
    sweep.sweep_command,
    tune.tune_command,
    serve.serve_command,
    sine.sine_command,
    web.web_command,
    benchmark.benchmark_command,
    train_base.train_base_command,
):
    _command.context_settings = _HELP
    _command.short_help = (_command.help or "").partition("\n\n")[0]  # click's own would cut a sentence short
    pplm.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `pplm`; without arguments those of the process."""
    run_command(pplm, arguments, name="pplm")


def run_command(command: click.Command, arguments: Sequence[str] | None = None, *, name: str | None = None) -> None:
    """Run a command and exit with 0 (done), 2 (wrong input: one line on stderr), 130 (interrupted) or 141.

    141 means that the reader of the output has gone; a command may also exit with a code of its own. Commands find
    their arguments, as they were typed, in the context's `obj`. Of several processes of `accelerate launch` only the
    first shows errors and warnings.
    """
    _log_to_stderr()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers reads it when it is imported
    warnings.formatwarning = _format_warning
    warnings.simplefilter("once", SteeringWarning, append=True)  # after the filters that the user has set
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command.context_settings = {**_HELP, **command.context_settings}
    stdout = sys.stdout
    try:
        for argument in arguments:
            if argument.encode("utf-8", "ignore").decode() != argument:
                raise InputError(f"argument {argument!r} is not UTF-8 text; type it again, or save its source as UTF-8")
        command.main(args=arguments, prog_name=name, standalone_mode=False, obj=tuple(arguments))
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        _echo(f"Error: {message}")
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _echo("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:  # at the flush
        _end_without_a_reader()
    except SystemExit:
        if sys.stdout is stdout:
            raise
        _end_without_a_reader()  # click replaces a broken stdout or stderr, and exits with 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        place = error.filename or "stdout"
        _echo(f"Error: {place} cannot be written: {error.strerror}; free some space or choose another place")
        _drop_what_is_left(sys.stdout)
        sys.exit(2)


def _end_without_a_reader() -> NoReturn:
    """Exit silently, with the code of SIGPIPE, as programs do when `head` has read enough of their output."""
    _drop_what_is_left(sys.stdout, sys.stderr)
    sys.exit(128 + 13)


def _drop_what_is_left(*streams: TextIO) -> None:
    """Discard what the streams still buffer: flushing it at exit would fail again."""
    for stream in streams:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _echo(message: str) -> None:
    if _is_first():
        click.echo(_one_line(message), err=True)


def _one_line(message: str) -> str:
    """Return a message in one line, control characters escaped: names in it may come from a stranger's file."""
    words = " ".join(message.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning of ours as one line, in the first of several processes, and others as Python shows them."""
    if not issubclass(category, SteeringWarning):
        return _format_others(message, category, filename, lineno, line)
    return f"Warning: {_one_line(str(message))}\n" if _is_first() else ""


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _log_to_stderr() -> None:
    handler = RichHandler(
        console=Console(stderr=True, soft_wrap=True),
        show_time=False,
        show_path=False,
        show_level=False,
        markup=False,
    )
    for name in ("torchao", "torch.utils._pytree"):  # what they log while torchao is imported helps no user
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("pplm", "attribute_models"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
