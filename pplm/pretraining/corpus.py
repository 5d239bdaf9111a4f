"""Documents from text files or a data set, and the one stream of tokens that they become."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pplm.errors import InputError
from pplm.resources import local_path

SEPARATOR = "<|endoftext|>"
"""A line of its own between two documents of a file, and the token that begins each document."""
_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_ENCODE_AT_ONCE = 256


@dataclass(frozen=True)
class Corpus:
    """Documents to train on and documents to validate on; neither has empty ones."""

    training: list[str]
    validation: list[str]


def read_corpus(
    sources: Sequence[str | Path],
    *,
    validation: Sequence[str | Path] = (),
    text_column: str = "text",
    split: str = "train",
    validation_fraction: float,
) -> Corpus:
    """Read every source; without a `validation` source, hold out evenly spread documents.

    Parameters
    ----------
    sources, validation
        UTF-8 text files (also .xz, .gz, .bz2) whose documents are separated by a line `<|endoftext|>`, or ids of
        data sets on the hub.
    text_column, split
        Of the data sets.
    validation_fraction
        Share of the documents that is held out if there is no `validation` source: at least one. A single document
        gives its last lines.

    Raises
    ------
    InputError
        If a source cannot be read or has no text.

    """
    training = [text for source in sources for text in _documents(source, text_column, split)]
    if not training:
        raise InputError("no source of text is given; name a text file or a data set id")
    if validation:
        return Corpus(training, [text for source in validation for text in _documents(source, text_column, split)])
    if validation_fraction <= 0:
        raise InputError("validation_fraction is 0 and there is no validation file; give one of the two")
    if len(training) == 1:
        lines = training[0].splitlines()
        cut = len(lines) - max(1, round(len(lines) * validation_fraction))
        if cut < 1:
            raise InputError("the corpus is a single line; nothing can be held out of it: give a validation file")
        return Corpus(["\n".join(lines[:cut])], ["\n".join(lines[cut:])])
    every = max(2, round(1 / validation_fraction))
    held_out = set(range(every // 2, len(training), every)) or {len(training) - 1}
    return Corpus(
        [text for index, text in enumerate(training) if index not in held_out],
        [text for index, text in enumerate(training) if index in held_out],
    )


def encode_stream(tokenizer: Any, documents: Sequence[str]) -> NDArray[np.uint32]:
    """Return the token ids of all documents in a row, each begun by the end-of-text token: (N,)."""
    begin = tokenizer.bos_token_id
    pieces = [np.empty(0, dtype=np.uint32)]
    for start in range(0, len(documents), _ENCODE_AT_ONCE):
        some = list(documents[start : start + _ENCODE_AT_ONCE])
        encoded = tokenizer(some, add_special_tokens=False, verbose=False).input_ids
        pieces += [np.array([begin, *ids], dtype=np.uint32) for ids in encoded]
    return np.concatenate(pieces)


def _documents(source: str | Path, text_column: str, split: str) -> Iterator[str]:
    path = local_path(source)
    found = 0
    for text in _hub_texts(str(source), text_column, split) if path is None else _file_texts(path):
        if text := text.strip():
            found += 1
            yield text
    if not found:
        raise InputError(f"{source} holds no text")


def _file_texts(path: Path) -> Iterator[str]:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name its text files")
    lines: list[str] = []
    try:
        with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line.strip() == SEPARATOR:
                    yield "".join(lines)
                    lines = []
                else:
                    lines.append(line)
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error
    yield "".join(lines)


def _hub_texts(name: str, column: str, split: str) -> Iterator[str]:
    if Path(name).suffix in {".txt", *_OPENERS} or name.startswith((".", "/", "~")):
        raise InputError(f"text file {name} does not exist")
    import datasets  # slow to import, and files do not need it

    try:
        table = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name} is no file here, and no data set that can be read: {reason}") from error
    if column not in table.column_names:
        raise InputError(f"data set {name} has no column {column!r}; its columns are {', '.join(table.column_names)}")
    yield from (str(text) for text in table[column] if text)
