"""How text is written to stdout and stderr, whether they are a terminal or not."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Set
from typing import NoReturn

from rich.console import Console
from rich.text import Text

_WORDS = re.compile(r"[^\W\d_]+")


class _Screen(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Raise, so that the command ends as always when its reader has gone; rich would exit with code 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def screen() -> Console:
    """Return stdout, with colours where it is a terminal and NO_COLOR is not set."""
    plain = bool(os.environ.get("NO_COLOR"))  # rich would still print in bold
    return _Screen(highlight=False, soft_wrap=True, color_system=None if plain else "auto")


def page() -> Console:
    """Return stdout for reports: lines wrap at the terminal's width, at 80 columns where stdout is not a terminal."""
    plain = bool(os.environ.get("NO_COLOR"))
    return _Screen(highlight=False, markup=False, emoji=False, color_system=None if plain else "auto")


def note(line: str) -> None:
    """Write a line about a run to stderr: on a terminal it wraps between words, elsewhere it stays one line."""
    console = _Screen(stderr=True, highlight=False, markup=False, emoji=False, color_system=None)
    console.print(line, soft_wrap=not console.is_terminal)


def coloured(text: str, words: Set[str]) -> Text:
    """Return a text with those words coloured whose lower-case form is among `words`."""
    shown = Text(text)
    for word in _WORDS.finditer(text):
        if word.group().lower() in words:
            shown.stylize("bold green", *word.span())
    return shown
