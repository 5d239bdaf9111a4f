"""Files of texts that commands read: csv, tsv and jsonl."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pplm.errors import InputError
from pplm.evaluation.judges import JudgedText

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class TextFile:
    """The N texts of a file, the group of each ("" where none was asked for), and the file's columns."""

    texts: list[JudgedText]
    groups: list[str]
    columns: list[str]


def read_texts(
    path: Path, *, text_column: str, prompt_column: str | None, by: str | None, attribute: str = ""
) -> TextFile:
    """Read a .csv, .tsv or .jsonl file whose columns have names; `attribute` is what all its texts were to show.

    Raises
    ------
    InputError
        With the line, if the file cannot be read, lacks a column, or a text does not begin with its prompt.

    """
    texts: list[JudgedText] = []
    groups: list[str] = []
    columns: list[str] = []
    try:
        for line, row in _rows(path):
            columns = columns or list(row)
            prompt = "" if prompt_column is None else _cell(row, prompt_column, "--prompt-column", line, path)
            text = _cell(row, text_column, "--text-column", line, path)
            if not text.startswith(prompt):
                raise InputError(
                    f"{path}, line {line}: column {text_column!r} does not begin with column {prompt_column!r}; leave "
                    "out --prompt-column to score all of the text"
                )
            texts.append(JudgedText(text, prompt, attribute))
            groups.append("" if by is None else _cell(row, by, "--by", line, path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not texts:
        raise InputError(f"{path} holds no texts")
    return TextFile(texts, groups, columns)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number of a row's last line, and the row."""
    kind = path.suffix.lower()
    if kind not in (*_SEPARATORS, ".jsonl"):
        raise InputError(f"{path} must end in .csv, .tsv or .jsonl")
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from _objects(file, path) if kind == ".jsonl" else _records(file, path, _SEPARATORS[kind])


def _objects(file: Any, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is no JSON object; write one object a line")
        yield number, row


def _records(file: Any, path: Path, separator: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # As everywhere in pplm: with tabs between, a lone " is part of the text.
    quoting: Literal[0, 3]
    quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    reader = csv.DictReader(file, delimiter=separator, quoting=quoting)
    try:
        names = list(reader.fieldnames or [])
        if len(set(names)) < len(names):
            raise InputError(f"{path} has two columns of one name ({', '.join(names)}); rename one")
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"{path}, line {reader.line_num} does not have {len(names)} fields as the first line has"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path} cannot be read after line {reader.line_num}: {error}") from error


def _cell(row: Mapping[str, Any], name: str, option: str, line: int, path: Path) -> str:
    if name not in row:
        raise InputError(
            f"{path}, line {line} has no column {name!r}; name one of {', '.join(map(str, row))} with {option}"
        )
    value = row[name]
    if isinstance(value, str):
        return value
    if option != "--by":
        raise InputError(f"{path}, line {line}: column {name!r} holds {json.dumps(value)}, which is no text")
    return json.dumps(value, ensure_ascii=False)
