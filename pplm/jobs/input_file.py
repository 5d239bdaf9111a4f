"""The prompts of a file or of stdin, one by one, and the hash by which a resumed job recognises its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.files.rows import FORMATS, STDIN, Row, read_rows
from pplm.jobs.requests import Request

Settle = Callable[[int, Row], Request]
"""Turns a prompt's number and row into a request."""


@dataclass(frozen=True)
class Input:
    """Prompts that are about to be read.

    Attributes
    ----------
    rows
        The rows, each read only when it is asked for.
    columns
        All columns of a file; for stdin those of the first row.
    sha256, count
        The file's hash and the number of prompts; None for stdin, which is read only once.

    """

    rows: Iterable[Row]
    columns: tuple[str, ...]
    sha256: str | None = None
    count: int | None = None

    def requests(self, settle: Settle) -> Iterator[Request]:
        """Yield the requests, each row read when its turn comes."""
        for number, row in enumerate(self.rows):
            yield settle(number, row)


@dataclass(frozen=True)
class PromptsFile:
    """A file of prompts.

    Attributes
    ----------
    path
        The file; "-" for stdin.
    given_format
        How to read it, such as ".txt"; None goes by its name, and reads stdin as .txt.
    column
        The column that holds the prompts; also the name given to the lines of a .txt file.

    """

    path: Path
    given_format: str | None = None
    column: str = "prompt"

    @property
    def is_stdin(self) -> bool:
        """Whether the prompts come from stdin, which can be read only once."""
        return self.path == STDIN

    @property
    def format(self) -> str:
        """How it is read, such as ".txt"."""
        return self.given_format or (".txt" if self.is_stdin else self.path.suffix.lower())

    def read(self) -> Input:
        """Return the prompts to be read. For this a file is read through once, stdin up to its first row.

        Raises
        ------
        InputError
            If it cannot be read, or holds no prompts.

        """
        if not self.is_stdin and not self.path.is_file():
            state = "is not a regular file" if self.path.exists() else "does not exist"
            raise InputError(f"--prompts-file {self.path} {state}; name a file, or - for stdin")
        if self.format not in (".txt", *FORMATS):
            known = ", ".join(name.removeprefix(".") for name in (".txt", *FORMATS))
            raise InputError(f"--prompts-file {self.path}: its name shows no format; add --format, one of {known}")
        rows = self.rows()
        first = next(rows, None)
        if first is None:
            raise InputError(f"--prompts-file {self.path} holds no prompts; write one on each line")
        if self.is_stdin:
            return Input(chain([first], rows), tuple(first))
        columns, count = dict.fromkeys(first), 1
        for row in rows:
            columns.update(dict.fromkeys(row))
            count += 1
        with self.path.open("rb") as file:
            return Input(self.rows(), tuple(columns), hashlib.file_digest(file, "sha256").hexdigest(), count)

    def rows(self) -> Iterator[Row]:
        """Yield the rows; refuse input whose first row lacks the prompt's column."""
        for number, (line, row) in enumerate(read_rows(self.path, kind=self.format, line_column=self.column)):
            if number == 0 and self.column not in row:
                names = ", ".join(map(str, row)) or "none"
                raise InputError(
                    f"{self.path}, line {line} has no column {self.column!r}; name one of {names} with --prompt-column"
                )
            yield row


def copied_columns(row: Row, column: str, own_fields: frozenset[str], used: frozenset[str]) -> dict[str, Any]:
    """Return the other columns of a row, to copy into its lines; one named like our own field becomes input_NAME."""
    copied: dict[str, Any] = {}
    for name, value in row.items():
        if name == column or name in used:
            continue
        shown = str(name)
        while shown in own_fields or (shown != name and shown in row):
            shown = f"input_{shown}"
        copied[shown] = value
    return copied
