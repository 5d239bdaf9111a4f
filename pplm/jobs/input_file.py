"""The prompts of a file or of stdin, one by one, and what a job is recognised by when it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.files.rows import FORMATS, STDIN, Row, read_rows
from pplm.jobs.requests import Request

Settle = Callable[[int, Row], Request]
"""Makes a request of a prompt's number and row."""


@dataclass(frozen=True)
class PromptsFile:
    """A file of prompts.

    Attributes
    ----------
    path
        The file; "-" for stdin.
    kind
        How to read it, such as ".txt"; None goes by its name, and stdin is .txt.
    column
        Where the prompts are; what the lines of a .txt file are called.

    """

    path: Path
    kind: str | None = None
    column: str = "prompt"

    def __post_init__(self) -> None:
        """Choose the format."""
        kind = self.kind or (".txt" if self.path == STDIN else self.path.suffix.lower())
        if kind not in (".txt", *FORMATS):
            known = ", ".join(name.removeprefix(".") for name in (".txt", *FORMATS))
            raise InputError(f"{self.path}: its name shows no format; add --format, one of {known}")
        object.__setattr__(self, "kind", kind)

    @property
    def is_stdin(self) -> bool:
        """Whether it can be read only once."""
        return self.path == STDIN

    def rows(self) -> Iterator[Row]:
        """Yield the rows; the first must have the prompt's column."""
        for number, (line, row) in enumerate(read_rows(self.path, kind=self.kind, line_column=self.column)):
            if number == 0 and self.column not in row:
                names = ", ".join(map(str, row)) or "none"
                raise InputError(
                    f"{self.path}, line {line} has no column {self.column!r}; name one of {names} with --prompt-column"
                )
            yield row

    def scan(self) -> tuple[str, int, list[str]]:
        """Read the file once; return its hash, the number of prompts, and the columns of its first row.

        Raises
        ------
        InputError
            If it cannot be read, or holds no prompts.

        """
        columns: list[str] = []
        count = 0
        for row in self.rows():
            columns = columns or list(row)
            count += 1
        if not count:
            raise InputError(f"{self.path} holds no prompts; write one on each line")
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), count, columns

    def requests(self, settle: Settle) -> Iterator[Request]:
        """Yield the requests, each row read when its turn comes."""
        for number, row in enumerate(self.rows()):
            yield settle(number, row)


def copied_columns(row: Row, column: str, own_fields: frozenset[str], used: frozenset[str]) -> dict[str, Any]:
    """Return what a row's lines hold of its other columns; one named as a field of ours is written as input_NAME."""
    copied: dict[str, Any] = {}
    for name, value in row.items():
        if name == column or name in used:
            continue
        shown = str(name)
        while shown in own_fields or (shown != name and shown in row):
            shown = f"input_{shown}"
        copied[shown] = value
    return copied
