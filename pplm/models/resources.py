"""Where files are: shipped ones (beside the packages, or inside an installed wheel), the user's, and the cache."""

from __future__ import annotations

import os
from pathlib import Path

from pplm.errors import InputError

EMBEDDED_MODEL = "gpt2-mini"
"""The small GPT-2 that ships with pplm and needs no download: its name, and its folder under `data/`."""
HELD_OUT = "held_out_words"
"""The folder, under `data/`, of words that belong to a topic but are not in its shipped bag."""


def data_path(*parts: str) -> Path:
    """Return the path of something under `data/`, e.g. `data_path("bags_of_words", "space.txt")`.

    Raises
    ------
    InputError
        If neither a checkout's `data` folder nor an installed one is there.

    """
    package = Path(__file__).resolve().parent.parent
    for root in (package / "data", package.parent / "data"):
        if root.is_dir():
            return root.joinpath(*parts)
    raise InputError(f"the data folder of pplm is missing beside {package}; reinstall pplm")


def shipped_names(folder: str, suffix: str = "") -> list[str]:
    """Return the sorted names (without suffix) of what ships under `data/<folder>`."""
    found = data_path(folder)
    return sorted(path.name.removesuffix(suffix) for path in found.glob(f"*{suffix}")) if found.is_dir() else []


def cache_folder(*parts: str) -> Path:
    """Return a folder for files that can be remade: in $PPLM_CACHE, else $XDG_CACHE_HOME/pplm, else ~/.cache/pplm."""
    own, caches = os.environ.get("PPLM_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else Path(caches or "~/.cache") / "pplm"
    return root.expanduser().joinpath(*parts)


def local_path(name: str | Path) -> Path | None:
    """Return the path that a user named, `~` resolved, if it exists; None if it does not or cannot be a path."""
    if name == "":  # Path would take it for the current folder
        return None
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, no such home, a null character
        return None
