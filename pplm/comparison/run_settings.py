"""The settings of an evaluation's output folder: texts are added only to those made with equal settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pplm.comparison.samples import SAMPLES_FILE
from pplm.errors import InputError
from pplm.files import settings_file

SETTINGS_FILE = "settings.json"


def check_settings(folder: Path, settings: Mapping[str, Any], surroundings: Mapping[str, Any]) -> None:
    """Refuse to add texts to those made with other settings; `folder` may be new or empty. Writes nothing.

    Raises
    ------
    InputError
        If settings differ, which it names, or the folder cannot be used.

    """
    path = folder / SETTINGS_FILE
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file; name a folder")
    if not path.is_file() and (folder / SAMPLES_FILE).exists():
        raise InputError(f"{folder} holds texts but no {SETTINGS_FILE}; choose another output")
    settings_file.check_settings(path, settings, surroundings, texts=folder, remedy="choose another output")


def write_settings(folder: Path, settings: Mapping[str, Any], surroundings: Mapping[str, Any]) -> None:
    """Create the folder, and write down what its texts are made with unless that has been done.

    Raises
    ------
    InputError
        If the folder cannot be written.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output {folder} cannot be written: {error.strerror or error}") from error
    if not (folder / SETTINGS_FILE).is_file():
        settings_file.write_settings(folder / SETTINGS_FILE, settings, surroundings)
