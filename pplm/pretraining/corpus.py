"""Documents from text files or data sets, and their encoding as one stream of tokens."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pplm.errors import InputError
from pplm.files.rows import load_hub
from pplm.models.resources import local_path

SEPARATOR = "<|endoftext|>"
"""A line of its own between two documents of a file, and the token that begins each document."""
_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_TABLES = {".csv", ".json", ".jsonl", ".tsv"}
_ENCODE_AT_ONCE = 256


@dataclass(frozen=True)
class Corpus:
    """Documents to train on and documents to validate on; none is empty."""

    training: list[str]
    validation: list[str]


def read_corpus(
    sources: Sequence[str | Path],
    *,
    validation: Sequence[str | Path] = (),
    text_column: str = "text",
    config: str | None = None,
    split: str = "train",
    validation_fraction: float,
) -> Corpus:
    """Read every source; without a `validation` source, hold out evenly spread documents.

    Parameters
    ----------
    sources, validation
        UTF-8 text files (also .xz, .gz, .bz2) whose documents are separated by a line `<|endoftext|>`, or ids of
        data sets on the hub.
    text_column, config, split
        Column, configuration and split of the data sets.
    validation_fraction
        Share of the documents that is held out if there is no `validation` source, at least one document. Of a single
        document its last lines are held out.

    Raises
    ------
    InputError
        If a source cannot be read or has no text, or nothing can be held out.

    """
    if not validation and validation_fraction <= 0:
        raise InputError("validation_fraction is 0 and there is no validation file; give one of the two")
    training, held_out = (
        [text for source in names for text in _documents(source, text_column, config, split)]
        for names in (sources, validation)
    )
    return Corpus(training, held_out) if validation else _hold_out(training, validation_fraction)


def encode_stream(tokenizer: Any, documents: Sequence[str]) -> NDArray[np.uint32]:
    """Return the token ids of all documents, one after the other, each begun by the beginning-of-text token: (N,)."""
    begin = tokenizer.bos_token_id
    pieces = [np.empty(0, dtype=np.uint32)]
    for start in range(0, len(documents), _ENCODE_AT_ONCE):
        some = list(documents[start : start + _ENCODE_AT_ONCE])
        encoded = tokenizer(some, add_special_tokens=False, verbose=False).input_ids
        pieces += [np.array([begin, *ids], dtype=np.uint32) for ids in encoded]
    return np.concatenate(pieces)


def _hold_out(documents: list[str], fraction: float) -> Corpus:
    if len(documents) == 1:
        lines = documents[0].split("\n")
        cut = len(lines) - max(1, round(len(lines) * fraction))
        if cut < 1:
            raise InputError("the corpus is a single line; nothing can be held out of it: give a validation file")
        return Corpus(["\n".join(lines[:cut])], ["\n".join(lines[cut:])])
    spread = (int((index + 0.5) / fraction) for index in range(len(documents)))
    chosen = set(takewhile(lambda index: index < len(documents), spread)) or {len(documents) - 1}
    return Corpus(
        [text for index, text in enumerate(documents) if index not in chosen],
        [text for index, text in enumerate(documents) if index in chosen],
    )


def _documents(source: str | Path, text_column: str, config: str | None, split: str) -> Iterator[str]:
    path = local_path(source)
    found = 0
    for text in _hub_texts(str(source), text_column, config, split) if path is None else _file_texts(path):
        if text := text.strip():
            found += 1
            yield text
    if not found:
        raise InputError(f"{source} holds no text")


def _file_texts(path: Path) -> Iterator[str]:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name its text files")
    if path.suffix.lower() in _TABLES:
        raise InputError(f"{path} is a table; write its texts into a text file, with a line {SEPARATOR} between two")
    lines: list[str] = []
    try:
        # With or without a byte order mark: books of Project Gutenberg have one.
        with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8-sig") as file:
            for line in file:
                if "\0" in line:
                    raise InputError(f"{path} holds NUL characters, as UTF-16 text does; save it as UTF-8 text")
                if line.strip() == SEPARATOR:
                    yield "".join(lines)
                    lines = []
                else:
                    lines.append(line)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error
    yield "".join(lines)


def _hub_texts(name: str, column: str, config: str | None, split: str) -> Iterator[str]:
    suffix = Path(name).suffix  # an id such as somebody/texts-v1.0 may seem to have one
    if (
        suffix in {".txt", *_OPENERS}
        or (suffix and "/" not in name)
        or name.startswith((".", "/", "~"))
        or name.count("/") > 1
    ):
        raise InputError(f"text file {name} does not exist")
    table = load_hub(name, config, split)
    if column not in table.column_names:
        raise InputError(f"data set {name} has no column {column!r}; its columns are {', '.join(table.column_names)}")
    for text in table[column]:
        if not isinstance(text, str | None):
            raise InputError(f"column {column!r} of data set {name} holds {text!r}, which is not a text; name another")
        yield text or ""
