"""`pplm generate --trace`: what steering did to each token, as a page to look at or as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pplm.cli.outputs import FILE, write_text
from pplm.errors import InputError

if TYPE_CHECKING:
    from pplm.cli.generate_setup import Setup
    from pplm.generated_text import Generation
    from pplm.rerank import Rerank

_SUFFIXES = (".html", ".json")

trace_option = click.option(
    "--trace",
    type=FILE,
    default=None,
    metavar="FILE.html|FILE.json",
    help="Write what steering did to each token: how likely the attribute was with and without it, the likeliest "
    "tokens, KL, steps. A page to look at, or the same as JSON. Beside each steered text stands the unsteered one of "
    "the same random numbers. It changes no text.",
)


def check_trace(path: Path | None, *, has_file: bool, rerank: Rerank | None, unsteered: int) -> None:
    """Refuse a trace that cannot be shown, or not held in memory.

    Parameters
    ----------
    path
        The file of --trace, if it was given.
    has_file
        Whether the prompts come from --prompts-file.
    rerank, unsteered
        How steered texts are chosen, and how many unsteered ones there are of each prompt.

    Raises
    ------
    InputError
        If it is refused; the message says what to leave out.

    """
    if path is None:
        return
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"--trace {path} must end in .html (a page) or .json; got {path.suffix or 'no ending'!r}")
    if has_file:
        raise InputError(
            "--trace holds all texts in memory until the end, and a long job has any number of them; leave out "
            "--prompts-file, or trace a few of its prompts alone"
        )
    if rerank is not None and rerank.candidates > 1 and unsteered:
        raise InputError(
            "--trace puts unsteered texts of the same random numbers beside the steered ones, and a candidate of "
            f"--rerank may have used others; add --no-unsteered, or leave out --rerank {rerank.candidates}"
        )


def write_trace(path: Path, texts: Sequence[Generation], setup: Setup, arguments: Sequence[str]) -> None:
    """Write the trace of a command's texts, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.

    """
    from pplm.documents import trace_document

    attributes: list[Any] = list(setup.attributes)
    document = trace_document(
        texts,
        command=again(arguments, None if setup.asked.seed is not None else setup.seed),
        model=setup.asked.model,
        attributes=attributes,
        steering=setup.steering,
    )
    if path.suffix.lower() == ".json":
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    else:
        from pplm.apps.html import trace_page

        text = trace_page(document)
    write_text("--trace", path, text)


def again(arguments: Sequence[str], drawn_seed: int | None) -> str:
    """Return the command line that makes the same texts, with the seed that was drawn where none was given."""
    command, *rest = arguments
    seed = [] if drawn_seed is None else ["--seed", str(drawn_seed)]
    return shlex.join(["pplm", command, *seed, *rest])  # first: after "--" it would be a prompt
