"""Read text and JSON that somebody else wrote: whatever is wrong with it becomes one kind of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pplm.errors import InputError


def read_text(kind: str, path: Path) -> str:
    """Return the content of a UTF-8 text file, without a byte order mark and with line feeds as line ends.

    Parameters
    ----------
    kind
        What the file is, for errors: "word list".

    Raises
    ------
    InputError
        If it cannot be read, is not UTF-8, or holds NUL characters, as text in UTF-16 does.

    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{kind} {path} is not UTF-8 ({error}); save it as UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{kind} {path} cannot be read: {error.strerror or error}; name another file") from error
    if "\0" in text:
        raise InputError(f"{kind} {path} holds NUL characters, as UTF-16 text does; save it as UTF-8 text")
    return text


def parse_json(text: str, **options: Any) -> Any:
    """Return the value of a JSON text; `options` as for `json.loads`.

    Raises
    ------
    ValueError
        If it is not JSON, or its brackets are nested deeper than Python can follow.

    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None
