"""Write a file or a folder completely or not at all: an interrupted write leaves the old one unchanged."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pplm.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path in a new hidden folder beside `path` and, if the block succeeds, move that file into its place.

    Only this user can access that folder, so nobody else can have put a link there that leads elsewhere. A `path` that
    exists and is not a regular file, such as /dev/stdout, cannot be replaced and is itself yielded.

    Raises
    ------
    OSError
        If the file was not written or cannot be moved.

    """
    if path.exists() and not path.is_file():
        yield path
        return
    own = Path(tempfile.mkdtemp(prefix=".", dir=path.absolute().parent))
    new = own / path.name  # the same ending, which decides a figure's format
    try:
        yield new
        new.replace(path)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def check_replaceable(folder: str | Path, own_files: Collection[str]) -> Path:
    """Return the folder's path if it is new, empty, or holds nothing but `own_files`.

    Raises
    ------
    InputError
        If the folder holds anything else, or cannot be written.

    """
    target = Path(folder).expanduser().absolute()
    try:
        _check_replaceable(folder, target, own_files)
    except OSError as error:  # a name that is too long, or a link to itself
        raise InputError(f"folder {folder} cannot be written: {error.strerror}; name another") from error
    return target


def _check_replaceable(folder: str | Path, target: Path, own_files: Collection[str]) -> None:
    if target.is_symlink() and not target.exists():
        raise InputError(f"folder {folder} is a link to nothing; name a folder")
    if target.exists() and not target.is_dir():
        raise InputError(f"{folder} is a file; name a folder")
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if strangers := [name for name in there if name not in own_files]:
        raise InputError(f"folder {folder} holds other things ({', '.join(strangers[:3])}); name a new folder")
    parent = next(path for path in target.parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"folder {folder} cannot be written: {parent} is not a folder that you may write to")


@contextmanager
def atomic_folder(folder: str | Path, own_files: Collection[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `folder` and, if the block succeeds, put it in its place.

    Parameters
    ----------
    folder
        New, empty, or an earlier result, which is replaced.
    own_files
        Names of files that an earlier result may hold; a folder that holds anything else is refused.

    Raises
    ------
    InputError
        If the folder cannot be written or holds anything else.

    """
    target = check_replaceable(folder, own_files)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"folder {folder} cannot be written: {error.strerror}") from error
    try:
        new = temporary / "new"
        new.mkdir()
        yield new
        if target.exists():
            target.rename(temporary / "old")
        new.rename(target)
    except BaseException:
        if (temporary / "old").exists() and not target.exists():
            (temporary / "old").rename(target)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
