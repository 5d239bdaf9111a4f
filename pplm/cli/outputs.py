"""Files that commands write: checked before the work is done, written after it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import click

from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.files.lines import json_line, write_whole


class _Path(click.Path):
    """A path that may not be empty: pathlib would read an empty one as the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Path(path_type=Path)
"""The type of an option that names a folder."""
FILE = _Path(dir_okay=False, readable=False, path_type=Path)
"""The type of an option that names a file; click checks no permissions, the code that reads or writes it does."""

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace output files that exist.")


def check_outputs(files: Mapping[str, Path | None], *, overwrite: bool) -> None:
    """Refuse files that exist, unless `overwrite`, and files that cannot be written.

    Parameters
    ----------
    files
        The path that each option names; None for an option that was not given.
    overwrite
        Whether `--overwrite` was given.

    Raises
    ------
    InputError
        If a file is refused; the message names the option and the file.

    """
    seen: dict[Path, str] = {}
    for option, path in files.items():
        if path is None:
            continue
        try:
            _check_output(option, path, seen, overwrite=overwrite)
        except (OSError, RuntimeError) as error:  # a name too long, a link to itself
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{option} {path} cannot be written: {reason}; choose another place") from error


def _check_output(option: str, path: Path, seen: dict[Path, str], *, overwrite: bool) -> None:
    if (other := seen.setdefault(path.resolve(), option)) != option and (path.is_file() or not path.exists()):
        raise InputError(f"{option} and {other} both name {path}; give each a file of its own")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{option} {path}: the folder {path.parent} does not exist; make it first")
    if path.is_file() and not overwrite:
        raise InputError(f"{option} {path} exists; add --overwrite to replace it, or name another file")
    places = (path,) if path.exists() and not path.is_file() else (path, folder)  # /dev/stdout is no new file
    if not all(os.access(place, os.W_OK) for place in places if place.exists()):
        raise InputError(f"{option} {path} cannot be written; choose another place")


def write_text(option: str, path: Path, text: str) -> None:
    """Write a whole file or nothing.

    Raises
    ------
    InputError
        If it cannot be written, with the option that names it.

    """
    try:
        with atomic_file(path) as new:
            new.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{option} {path} cannot be written: {error.strerror or error}; choose another place"
        ) from None


@contextmanager
def line_file(option: str, path: Path | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that writes a record as one line of JSON, whole and at once; without a path it writes nothing.

    The file is created, or emptied, when the first line is written.

    Raises
    ------
    InputError
        If a line cannot be written, with the option that names the file.

    """
    with ExitStack() as stack:
        file: list[FileIO] = []

        def write(record: Mapping[str, Any]) -> None:
            if path is None:
                return
            try:
                if not file:
                    file.append(stack.enter_context(path.open("wb", buffering=0)))
                write_whole(file[0], json_line(record))
            except OSError as error:
                raise InputError(
                    f"{option} {path} cannot be written: {error.strerror or error}; choose another place"
                ) from None

        yield write


def write_json(option: str, path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, as `write_text` does."""
    write_text(option, path, json.dumps(result, indent=1) + "\n")
