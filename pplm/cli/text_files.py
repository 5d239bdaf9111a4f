"""Files of texts that commands read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.evaluation.judges import JudgedText
from pplm.files.rows import read_rows


@dataclass(frozen=True)
class TextFile:
    """The N texts of a file, the group of each ("" without --by), and the names of the file's columns."""

    texts: list[JudgedText]
    groups: list[str]
    columns: list[str]


def read_texts(
    path: Path, *, text_column: str, prompt_column: str | None, by: str | None, attribute: str = ""
) -> TextFile:
    """Read texts from a file with named columns (see `read_rows`); all of them get the attribute `attribute`.

    Raises
    ------
    InputError
        With the line, if the file cannot be read, lacks a column, or a text does not begin with its prompt.

    """
    texts: list[JudgedText] = []
    groups: list[str] = []
    columns: list[str] = []
    for line, row in read_rows(path):
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
    if not texts:
        raise InputError(f"{path} holds no texts; name a file with at least one row")
    return TextFile(texts, groups, columns)


def _cell(row: Mapping[str, Any], name: str, option: str, line: int, path: Path) -> str:
    if name not in row:
        raise InputError(
            f"{path}, line {line} has no column {name!r}; name one of {', '.join(map(str, row))} with {option}"
        )
    value = row[name]
    if isinstance(value, str):
        return value
    if option != "--by":
        raise InputError(
            f"{path}, line {line}: column {name!r} holds {json.dumps(value)}, which is not a text; correct it"
        )
    return json.dumps(value, ensure_ascii=False)
