"""`pplm generate --stream`: one unsteered and one steered text, token by token as they come."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pplm.cli.screen import note, screen
from pplm.errors import InputError

if TYPE_CHECKING:
    from pplm.cli.generate_setup import Setup
    from pplm.text.details import NewToken, TokenDetails

_INK = "#1d1f24"
_RAISED = ("", "#cbe1ee", "#a5cce2", "#7ab4d5", "#559fc9")
_LOWERED = ("", "#f6dcc9", "#f1c4a3", "#eaa878", "#e08e55")
"""Backgrounds by how much steering changed a level: those of the HTML of a trace, but for the palest."""
_FEW = {
    True: ("", "cyan", "cyan", "black on cyan", "black on cyan"),
    False: ("", "yellow", "yellow", "black on yellow", "black on yellow"),
}
"""The same on terminals of 16 colours: raised, and lowered."""
_LEGEND = "shaded: steering raised ({}) or lowered ({}) an attribute's level by 0.01 or more; words of bags underlined"


def take_stream(prompts: Sequence[str], options: dict[str, Any], refused: dict[str, Any]) -> bool:
    """Remove --stream from a command's options; return whether it was given, which makes one sample the default.

    Parameters
    ----------
    prompts, options
        The command's.
    refused
        The values of further options that it cannot be combined with, by name; None where not given.

    Raises
    ------
    InputError
        If an option was given that it cannot be combined with.

    """
    if not options.pop("stream"):
        return False
    given = {
        "--prompts-file": options["prompts_file"],
        "--messages": options["messages_file"],
        "--rerank": options["candidates"],
        "--trace": options["trace"],
        **refused,
    }
    if named := [f"{name} {value}" for name, value in given.items() if value is not None]:
        raise InputError(f"--stream shows the tokens of one sample as they come; leave out {named[0]}, or --stream")
    if len(prompts) > 1:
        raise InputError(
            f"--stream shows one prompt; got {len(prompts)}: {', '.join(map(repr, prompts[:3]))}; leave out all but one"
        )
    for name, most in (("num_samples", 1), ("unsteered_samples", 1)):
        if (options[name] or 0) > most:
            option = "--" + name.replace("_", "-")
            raise InputError(f"--stream shows one sample; leave out {option} {options[name]}, or --stream")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("--stream runs in one process; leave accelerate launch out")
    if options["num_samples"] is None:
        options["num_samples"] = 1
    return True


def stream_texts(setup: Setup, prompt: Any) -> None:
    """Write the unsteered text of a prompt, if asked for, and then the steered one, each as its tokens come."""
    from pplm.generation import generate

    console, words = screen(), [attribute.model for attribute in setup.attributes]
    if console.is_terminal and console.color_system and words:
        note(_LEGEND.format(*(("cyan", "yellow") if console.color_system == "standard" else ("blue", "orange"))))
    if not isinstance(prompt, str):
        console.print(Text("[asked] ", style="bold"), Text(" ".join(prompt[-1]["content"].split())), sep="")
    for steered in (False, True) if words and setup.asked.counts[0] else (True,):
        line = StreamedText(console)
        moves = bool(words) and setup.steering.moves
        line.label("steered" if steered and moves else "unsteered")
        if isinstance(prompt, str):
            line.write(prompt)

        def show(token: NewToken, line: StreamedText = line) -> None:
            line.write(token.text, "" if token.details is None else _style(token.details, console.color_system))

        try:
            generate(
                setup.model,
                setup.tokenizer,
                prompt if isinstance(prompt, str) else [prompt],
                attributes=setup.attributes if steered else (),
                steering=setup.steering if steered else None,
                seed=setup.seed,
                bos=setup.asked.bos,
                trace=words,
                on_token=show,
                **setup.asked.sampling,
            )
        finally:
            line.end()
    console.print()


class StreamedText:
    """Writes one text piece by piece: white space becomes single spaces, and on a terminal lines end between words.

    On a terminal a word appears once it is whole; elsewhere every piece is written at once.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._width = console, console.width if console.is_terminal else None
        self._column, self._space = 0, False
        self._word: list[tuple[str, str]] = []

    def label(self, kind: str) -> None:
        """Begin the text with its label, `[steered 1]` or `[unsteered 1]`."""
        self._add(f"[{kind} 1]", "bold cyan" if kind == "steered" else "bold")
        self.write(" ")

    def write(self, piece: str, style: str = "") -> None:
        """Write the next piece in one of rich's styles."""
        for part in re.findall(r"\s+|\S+", piece):
            if part.isspace():
                self._flush()
                self._space = True
            else:
                self._add(part, style)

    def end(self) -> None:
        """End the text and its line."""
        self._flush()
        self._console.print()

    def _add(self, part: str, style: str) -> None:
        self._word.append((part, style))
        if self._width is None:
            self._flush()

    def _flush(self) -> None:
        """Write the word that has come so far, behind the space before it, or on a new line."""
        if not self._word:
            return
        word = Text.assemble(*self._word)
        length = cell_len(word.plain)
        if self._space and self._column:
            if self._width is not None and self._column + 1 + length > self._width:
                self._console.print()
                self._column = 0
            else:
                self._console.print(" ", end="")
                self._column += 1
        self._console.print(word, end="")
        self._column += length
        if (
            self._width is not None and self._column > self._width
        ):  # a word longer than a line, which the terminal breaks
            self._column %= self._width
        self._space, self._word = False, []


def _style(details: TokenDetails, colours: str | None) -> str:
    """Return how a token looks: shaded by the attribute that steering changed most, its bags' words underlined."""
    from pplm.apps.html.shown import shade

    gains = [level.gain for level in details.levels.values() if level is not None]
    depth = shade(max(gains, key=abs, default=None))
    place = abs(depth) - 1
    if colours == "standard":
        shaded = _FEW[depth > 0][place] if depth else ""
    else:
        background = (_RAISED if depth > 0 else _LOWERED)[place] if depth else ""
        shaded = f"{_INK} on {background}" if background else ""
    return f"bold underline {shaded}".strip() if details.words else shaded
