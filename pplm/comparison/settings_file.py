"""The settings that a folder's texts were made with: a run is continued only with the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pplm.comparison.samples import SAMPLES_FILE
from pplm.errors import InputError
from pplm.files.atomic import atomic_file

SETTINGS_FILE = "settings.json"
_SHOWN = 3
"""Number of differences that an error names."""
_NOTHING = "not set"
_log = logging.getLogger(__name__)


def check_settings(folder: Path, settings: Mapping[str, Any], surroundings: Mapping[str, Any]) -> None:
    """Refuse to add texts to those made with other settings; writes nothing.

    Parameters
    ----------
    folder
        The output folder; it may be new or empty.
    settings
        Everything that the texts depend on, as JSON would hold it.
    surroundings
        Versions and devices; differences cause a warning only.

    Raises
    ------
    InputError
        With the settings that differ, or if the folder cannot be used.

    """
    path = folder / SETTINGS_FILE
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file; name a folder")
    if not path.is_file():
        if (folder / SAMPLES_FILE).exists():
            raise InputError(f"{folder} holds texts but no {SETTINGS_FILE}; choose another output")
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        before, begun_with = earlier["settings"], earlier["begun_with"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error!r}); choose another output") from error
    changed = _differences(before, _plain(settings))
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        shown = "; ".join(f"{name} was {old}, is {new}" for name, old, new in changed[:_SHOWN])
        raise InputError(
            f"{folder} holds texts made with other settings: {shown}{more}; use those settings again, or choose "
            "another output"
        )
    for name, old, new in _differences(begun_with, _plain(surroundings)):
        _log.warning("the texts in %s were begun with %s %s, now it is %s", folder, name, old, new)


def write_settings(folder: Path, settings: Mapping[str, Any], surroundings: Mapping[str, Any]) -> None:
    """Make the folder and record what its texts are made with, unless that is recorded already.

    Raises
    ------
    InputError
        If the folder cannot be written.

    """
    path = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            content = {"settings": _plain(settings), "begun_with": _plain(surroundings)}
            with atomic_file(path) as new:
                new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"output {folder} cannot be written: {error.strerror or error}") from error


def _plain(settings: Mapping[str, Any]) -> Any:
    """Return settings as they come back from a file."""
    return json.loads(json.dumps(settings))


def _differences(before: Any, after: Any) -> list[tuple[str, str, str]]:
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        (name, _short(old.get(name, _NOTHING)), _short(new.get(name, _NOTHING)))
        for name in dict.fromkeys([*old, *new])
        if old.get(name, _NOTHING) != new.get(name, _NOTHING)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
