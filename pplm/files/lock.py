"""Let one command at a time write to a folder: a file beside the folder names the process that does."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from pplm.errors import InputError

_SAME = 2.0
"""Seconds by which two readings of one process's start may differ; beyond that, its number is now another process's."""


@contextmanager
def folder_lock(
    folder: str | Path, *, on_main: Callable[[Callable[[], object]], object] = lambda action: action()
) -> Iterator[None]:
    """Keep a folder for this process, or for all processes of a launch, while the block runs.

    A lock left by a process of this machine that no longer runs is taken over.

    Parameters
    ----------
    folder
        It need not exist. If its parent folder cannot be written to, the lock file is put inside it.
    on_main
        Runs an action in the first of several processes and raises its error in all (`Processes.on_main`).

    Raises
    ------
    InputError
        If another command holds the folder, or the lock cannot be written.

    """
    target = Path(folder).expanduser().resolve()
    place = target.parent if not target.is_dir() or os.access(target.parent, os.W_OK) else target
    lock = place / f".{target.name}.lock"
    own = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "started": psutil.Process().create_time()})
    on_main(lambda: _take(lock, own, folder))
    try:
        yield
    finally:
        with suppress(OSError):  # a folder that was removed meanwhile
            if lock.read_text(encoding="utf-8") == own:  # it is not in the other processes of a launch
                lock.unlink()


def _take(lock: Path, own: str, folder: str | Path) -> None:
    found = ""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            found = lock.read_text(encoding="utf-8")
            if _gone(found):
                aside = lock.with_name(f"{lock.name}.{os.getpid()}")
                lock.rename(aside)  # if several processes find it, only one can rename it
                if aside.read_text(encoding="utf-8") != found:
                    aside.rename(lock)  # another process had taken it over meanwhile
                aside.unlink(missing_ok=True)
        with lock.open("x", encoding="utf-8") as file:
            file.write(own)
    except FileExistsError as error:
        raise InputError(
            f"another command is writing to {folder} {found}; wait for it or choose another folder; if it no longer "
            f"runs, delete {lock}"
        ) from error
    except OSError as error:
        raise InputError(f"{lock} cannot be written: {error.strerror or error}") from error


def _gone(found: str) -> bool:
    """Return whether the process that wrote a lock ran on this machine and no longer runs."""
    try:
        holder = json.loads(found)
        if holder["host"] != socket.gethostname():
            return False
        return abs(psutil.Process(holder["process"]).create_time() - holder["started"]) > _SAME
    except psutil.NoSuchProcess:
        return True
    except (ValueError, KeyError, TypeError, psutil.AccessDenied):  # half written, or a process that we may not look at
        return False
