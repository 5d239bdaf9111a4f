"""Files that commands write: checked before the work is done, written after it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pplm.errors import InputError


def check_writable(option: str, path: Path | None) -> None:
    """Refuse a file that could not be written, naming the option that asked for it."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{option} {path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"{option} {path} cannot be written; choose another place")


def write_json(option: str, path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON."""
    try:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{option} {path} cannot be written: {error.strerror or error}") from None
