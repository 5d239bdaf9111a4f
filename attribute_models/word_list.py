"""Read and write word lists, shipped or the user's own.

A list is UTF-8 text: one word or phrase a line, optionally a tab and a weight, `#` for comments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from pplm.errors import InputError
from pplm.models.resources import data_path, local_path, shipped_names

_FOLDER = "bags_of_words"
_COMMENT = re.compile(r"(?:^|\s)#.*")  # a number sign inside a word, as in c#, is part of it


def read_word_list(name_or_path: str | Path) -> dict[str, float]:
    """Read a list in its order: every word or phrase with its weight, 1 where none is given.

    Parameters
    ----------
    name_or_path
        The name of a shipped list, such as "space", or the path of a text file.

    Raises
    ------
    InputError
        If there is no such list, or it cannot be read, is not UTF-8, holds no word, or holds a weight that is not
        a positive number or a word with two different weights.

    """
    path = _find(name_or_path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"word list {path} is not UTF-8 ({error}); save it as UTF-8 text") from error
    except OSError as error:
        raise InputError(f"word list {path} cannot be read: {error.strerror}") from error
    words: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = _COMMENT.sub("", line).strip()
        if not content:
            continue
        word, _, weight_text = content.partition("\t")
        weight = _weight(weight_text, f"word list {path}, line {number}")
        if words.setdefault(word.strip(), weight) != weight:
            raise InputError(f"word list {path}, line {number}: {word.strip()!r} already has another weight; keep one")
    if not words:
        raise InputError(f"word list {path} is empty; write one word a line")
    return words


def write_word_list(path: str | Path, words: Mapping[str, float]) -> None:
    """Write a list that `read_word_list` reads; weights of 1 are left out.

    Raises
    ------
    InputError
        If a word would be read as a comment, or the file cannot be written.

    """
    lost = next((word for word in words if _COMMENT.search(word)), None)
    if lost is not None:
        raise InputError(f"word list {path} cannot hold {lost!r}: a number sign before a word begins a comment")
    lines = [word if weight == 1 else f"{word}\t{weight:.6g}" for word, weight in words.items()]
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"word list {path} cannot be written: {error.strerror}") from error


def _weight(text: str, where: str) -> float:
    if not text.strip():
        return 1.0
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise InputError(f"{where}: the weight {text.strip()!r} is not a number above 0; write word<TAB>weight")
    return weight


def _find(name_or_path: str | Path) -> Path:
    name = str(name_or_path)
    names = shipped_names(_FOLDER, ".txt")
    if name in names:
        return data_path(_FOLDER, f"{name}.txt")
    path = local_path(name)
    if path is None:
        raise InputError(f"bag of words {name!r} is neither a file nor a shipped list ({', '.join(names)})")
    if path.is_dir():
        raise InputError(f"word list {name} is a folder; name a text file with one word a line")
    return path
