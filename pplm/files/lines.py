"""Files of JSON lines that grow while a job runs: lines are written whole, and a killed run's half line is cut off."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


def cut_half_line(path: Path) -> None:
    """Cut off the incomplete last line that a killed run left, with a warning.

    Raises
    ------
    OSError
        If the file cannot be read or written.

    """
    with path.open("r+b") as file:
        end = size = file.seek(0, 2)
        while end:
            start = max(0, end - 65_536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            _log.warning("the last line of %s is incomplete; its text is generated again", path)
            file.truncate(end)


def write_whole(file: Any, line: bytes) -> None:
    """Write a line to an unbuffered binary file; if that fails halfway, cut off the part that was written.

    Raises
    ------
    OSError
        If it cannot be written.

    """
    left, written = memoryview(line), 0
    try:
        while left:
            count = file.write(left)
            left, written = left[count:], written + count
    except BaseException:  # Ctrl-C too
        with suppress(OSError):  # a pipe or a device cannot be cut
            if written and file.seekable():
                file.truncate(file.tell() - written)
        raise


def json_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line of JSON; infinity and NaN become null, and types that JSON lacks become texts."""
    text = json.dumps(finite(record), ensure_ascii=False, allow_nan=False, default=str)
    # Half of a surrogate pair cannot be UTF-8 and is written as a JSON escape.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def finite(value: Any) -> Any:
    """Return a value with None in place of infinity and NaN, also inside mappings and lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
