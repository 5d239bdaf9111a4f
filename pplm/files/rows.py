"""Read csv, tsv, json, jsonl, parquet and text row by row (all but a JSON list in little memory), and hub data sets."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TextIO

from pplm.errors import InputError
from pplm.files.reading import parse_json

Row = dict[str, Any]
SEPARATORS = {".csv": ",", ".tsv": "\t"}
FORMATS = (*SEPARATORS, ".jsonl", ".json", ".parquet")
STDIN = Path("-")
_PEEK = 200
"""Number of records from which `names` decides whether a file has a header."""
_BATCH = 1000
"""Rows of a parquet file in memory at once."""
_INDEX = re.compile(r"(?:|__index_level_0__|Unnamed: \d+)")
"""Columns in which pandas saves its row numbers; they are left out."""


def read_rows(
    path: Path,
    *,
    kind: str | None = None,
    names: Callable[[list[list[str]]], Sequence[str] | None] | None = None,
    line_column: str | None = None,
) -> Iterator[tuple[int, Row]]:
    """Yield each row with its number: that of its last line or, in parquet and in a JSON list, its place from 1.

    Values from csv and tsv files are texts; others have the types that the file gives them. In a tsv file quotes are
    part of the text.

    Parameters
    ----------
    path
        A UTF-8 file that ends in .csv, .tsv, .jsonl, .json (a list of objects, or one per line) or .parquet; "-" is
        stdin, which cannot be a .json or .parquet.
    kind
        How to read the file, such as ".tsv", whatever its name ends in; None goes by its name.
    names
        Takes the first records of a csv or tsv file and returns its columns' names if it has no header. Without it,
        the first record is the header.
    line_column
        Column name for the lines of a .txt file, of which each is a row (blank ones are skipped); None refuses .txt.

    Raises
    ------
    InputError
        At the row that cannot be read, naming file and line.

    """
    kind = kind or path.suffix.lower()
    known = FORMATS if line_column is None else (".txt", *FORMATS)
    if kind not in known:
        raise InputError(f"{path} must end in {', '.join(known[:-1])} or {known[-1]}")
    if path == STDIN and kind in (".json", ".parquet"):
        raise InputError(f"a {kind} file cannot be read from stdin; name the file, or write .jsonl")
    try:
        for number, row in _rows(path, kind, names, line_column):
            yield number, {name: value for name, value in row.items() if not is_index(name)}
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: pyarrow raises it for a damaged file
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _rows(path: Path, kind: str, names: Any, line_column: str | None) -> Iterator[tuple[int, Row]]:
    if kind in SEPARATORS:
        return _records(path, SEPARATORS[kind], names)
    if kind == ".txt":
        return _plain_lines(path, str(line_column))
    return _parquet(path) if kind == ".parquet" else _objects(path, kind)


@contextmanager
def _opened(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a file as text, or stdin, which stays open."""
    if path != STDIN:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
        return
    file = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline=newline)
    try:
        yield file
    finally:
        file.detach()


def _plain_lines(path: Path, column: str) -> Iterator[tuple[int, Row]]:
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if "\0" in line:
                raise InputError(f"{path}, line {number} holds NUL characters, as UTF-16 text does; save it as UTF-8")
            if line.strip():
                yield number, {column: line.removesuffix("\n")}


def is_index(name: str) -> bool:
    """Return whether a column of this name holds the row numbers of pandas."""
    return _INDEX.fullmatch(name) is not None


def _records(
    path: Path, separator: str, names: Callable[[list[list[str]]], Sequence[str] | None] | None
) -> Iterator[tuple[int, Row]]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    with _opened(path, newline="") as file:
        reader = csv.reader(file, delimiter=separator, quoting=quoting)
        records = ((reader.line_num, fields) for fields in reader if fields)
        try:
            first = list(islice(records, _PEEK if names else 1))
            columns = names([fields for _, fields in first]) if names and first else None
            if columns is None:
                columns = first.pop(0)[1] if first else []
            if len(set(columns)) < len(columns):
                raise InputError(f"{path} has two columns with the same name ({', '.join(columns)}); rename one")
            for line, fields in chain(first, records):
                if len(fields) != len(columns):
                    raise InputError(f"{path}, line {line} does not have {len(columns)} fields as the first line has")
                yield line, dict(zip(columns, fields, strict=True))
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num} cannot be read: {error}") from error


def _objects(path: Path, kind: str) -> Iterator[tuple[int, Row]]:
    with _opened(path) as file:
        is_list = kind == ".json" and file.read(1000).lstrip().startswith("[")
        if kind == ".json":
            file.seek(0)
        for number, row in enumerate(parse_json(file.read()), start=1) if is_list else _lines(path, file):
            if not isinstance(row, dict):
                place, remedy = ("entry", "a list of objects") if is_list else ("line", "one object per line")
                raise InputError(f"{path}, {place} {number} is not a JSON object; write {remedy}")
            yield number, row


def _lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, start=1):
        try:
            value = parse_json(line) if line.strip() else None
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not JSON ({error}); write one object per line") from error
        if line.strip():
            yield number, value


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    from pyarrow.parquet import ParquetFile  # slow to import

    with path.open("rb") as file, ParquetFile(file) as table:
        rows = (row for batch in table.iter_batches(_BATCH) for row in batch.to_pylist())
        yield from enumerate(rows, start=1)


def load_hub(name: str, config: str | None, split: str) -> Any:
    """Return one split of a data set of the hub, or of a folder of files, as `datasets` loads it.

    Raises
    ------
    InputError
        If it cannot be loaded, with the reason that `datasets` gives in one short line.

    """
    import datasets  # slow to import, and files do not need it

    try:
        return datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        while error.__cause__ is not None:
            error = error.__cause__
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name} is neither a file here nor a data set that can be read: {reason}") from error
