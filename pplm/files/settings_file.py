"""The settings that texts were made with, in a file beside them: a run is resumed only with the same settings."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.files.reading import parse_json

_SHOWN = 3
"""An error gives this many differences with their values, and of further ones the names, at most `_NAMED`."""
_NAMED = 10
_NOTHING = "not set"
_log = logging.getLogger(__name__)


def check_settings(
    path: Path, settings: Mapping[str, Any], surroundings: Mapping[str, Any], *, texts: Path, remedy: str
) -> None:
    """Refuse to add texts to those made with other settings; writes nothing.

    Parameters
    ----------
    path
        The settings file; if it does not exist, nothing is refused.
    settings
        Everything that the texts depend on, as plain values for JSON.
    surroundings
        Versions and devices; differences cause a warning only.
    texts
        The file or folder that holds the texts.
    remedy
        What to do instead, such as "choose another output".

    Raises
    ------
    InputError
        If settings differ, naming them, or the file cannot be read.

    """
    if not path.is_file():
        return
    earlier = read_settings(path, remedy)
    if changed := name_differences(earlier["settings"], settings):
        raise InputError(
            f"{texts} holds texts made with other settings: {changed}; use those settings again, or {remedy}"
        )
    for name, old, new in _differences(earlier["begun_with"], _plain(surroundings)):
        _log.warning("the texts in %s were begun with %s %s, now it is %s", texts, name, old, new)


def name_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return a text that names the settings that differ, the first ones with both values; empty if none do."""
    changed = _differences(_plain(before), _plain(after))
    others = [name for name, _, _ in changed[_SHOWN:]]
    names = ", ".join([*others[:_NAMED], *(["..."] if others[_NAMED:] else [])])
    more = f" and {len(others)} more ({names})" if others else ""
    return "; ".join(f"{name} was {old}, is {new}" for name, old, new in changed[:_SHOWN]) + more


def read_settings(path: Path, remedy: str) -> dict[str, Any]:
    """Return a settings file's "settings" and "begun_with".

    Raises
    ------
    InputError
        If it cannot be read; the message ends with `remedy`.

    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        return {name: dict(found[name]) for name in ("settings", "begun_with")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error!r}); {remedy}") from error


def write_settings(path: Path, settings: Mapping[str, Any], surroundings: Mapping[str, Any]) -> None:
    """Write the settings file.

    Raises
    ------
    InputError
        If the file cannot be written.

    """
    content = {"settings": _plain(settings), "begun_with": _plain(surroundings)}
    try:
        with atomic_file(path) as new:
            new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


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
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{name}[{number}]")
    else:
        yield name, value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
