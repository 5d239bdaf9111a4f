"""Read word lists, shipped or the user's own, and say what a tokenizer makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.resources import data_path, local_path, shipped_names

_FOLDER = "bags_of_words"


@dataclass(frozen=True)
class TokenisedWords:
    """What became of a list's words.

    Attributes
    ----------
    token_ids
        One id for every word that is a single token.
    words
        Those words.
    unmatched
        The words that are not one token.

    """

    token_ids: tuple[int, ...]
    words: tuple[str, ...]
    unmatched: tuple[str, ...]


def read_word_list(name_or_path: str | Path) -> list[str]:
    """Read a list of words, one a line, in its order and without duplicates.

    Parameters
    ----------
    name_or_path
        The name of a shipped list, such as "space", or the path of a UTF-8 text file.

    Raises
    ------
    InputError
        If there is no such list, or it cannot be read, is not UTF-8 or holds no word.

    """
    path = _find(name_or_path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"word list {path} is not UTF-8 ({error}); save it as UTF-8 text") from error
    except OSError as error:
        raise InputError(f"word list {path} cannot be read: {error.strerror}") from error
    words = list(dict.fromkeys(stripped for line in text.splitlines() if (stripped := line.strip())))
    if not words:
        raise InputError(f"word list {path} is empty; write one word a line")
    return words


def tokenise_words(words: Iterable[str], tokenizer: Any) -> TokenisedWords:
    """Match words as they stand inside a text, with a leading space, against single tokens."""
    token_ids, matched, unmatched = [], [], []
    for word in words:
        ids = tokenizer.encode(f" {word}", add_special_tokens=False)
        if len(ids) == 1:
            token_ids.append(ids[0])
            matched.append(word)
        else:
            unmatched.append(word)
    return TokenisedWords(tuple(token_ids), tuple(matched), tuple(unmatched))


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
