"""Steering settings on disk: beside a model's weights, or (shipped or tuned here) found by the weights' hashes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.files.reading import parse_json
from pplm.models.fingerprint import identity, relation, relative_note, same_weights, weight_hashes
from pplm.models.resources import cache_folder, data_path
from pplm.presets import SteeringPresets

PRESETS_FILE = "steering.json"
"""`{"paper": {kind: settings}, "fast": {kind: settings}}`; settings replace the general ones, and the kinds are
"bag_of_words", "discriminator" and "mixture". A file with only kinds, as written before `fast` existed, is read as
"paper"."""
MADE_ON = "made_on"
"""The entry that names the weights which settings are for (`pplm.models.fingerprint.identity`)."""


def read_presets(folder: Path) -> SteeringPresets | None:
    """Return the settings beside a model's weights (`steering.json`), or None if there is no such file.

    Raises
    ------
    InputError
        If the file is not JSON or names settings that do not exist.

    """
    path = folder / PRESETS_FILE
    return _presets(path, _json(path)) if path.is_file() else None


def shipped_presets(model: Any) -> SteeringPresets:
    """Return the settings that pplm ships for these weights, wherever the weights are; empty if there are none.

    If there are none, those of a relative, such as the unquantised model, are returned with a note
    (`SteeringPresets.made_on`).
    """
    relatives = []
    for made_on, presets in _shipped():
        found = relation(made_on, model)
        if found == "same":
            return presets
        if found == "relative":
            relatives.append(replace(presets, made_on=relative_note(made_on["name"], model)))
    return relatives[0] if relatives else SteeringPresets()


def tuned_presets(model: Any) -> SteeringPresets:
    """Return the settings that were tuned for exactly these weights on this computer; empty if there are none.

    Raises
    ------
    InputError
        If any file of tuned settings is damaged; the error names it.

    """
    found = _tuned(model)
    return SteeringPresets() if found is None else found[2]


def with_tuned(presets: SteeringPresets, tuned: SteeringPresets | Mapping[str, Any]) -> SteeringPresets:
    """Return a model's settings, replaced by tuned ones for each kind that has them."""
    tuned = SteeringPresets.of(tuned)
    return replace(
        presets,
        paper={**presets.paper, **tuned.paper},
        fast={**presets.fast, **tuned.fast},
        exact=frozenset({*presets.exact, *tuned.fast}),
    )


def preset_path(model: Any, folder: str | Path | None = None) -> Path:
    """Return the file that `save_preset` writes, after checking that it can be read and written.

    Raises
    ------
    InputError
        If it is damaged or cannot be written, or the folder does not exist.

    """
    if folder is None:
        found = _tuned(model)
        own = identity(model)
        name = re.sub(r"[^\w.-]+", "-", own["name"]).strip("-.") or "model"
        path = cache_folder("presets", f"{name}-{own['weights']['float32']}.json") if found is None else found[0]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path.parent} cannot be written: {error.strerror}; set PPLM_CACHE to a folder that can be written"
            ) from error
    else:
        path = Path(folder).expanduser() / PRESETS_FILE
        if not path.parent.is_dir():
            raise InputError(f"folder {folder} does not exist; name the model's folder")
        read_presets(path.parent)
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent} is not a folder that you may write to; choose another place")
    return path


def save_preset(model: Any, kind: str, settings: Mapping[str, Any], folder: str | Path | None = None) -> Path:
    """Write `fast` settings for one kind of attribute where `load_model` finds them, and keep those of other kinds.

    Parameters
    ----------
    model
        The model that they are for.
    kind, settings
        A kind of `pplm.presets.KINDS` and fields of `SteeringConfig`.
    folder
        Folder whose `steering.json` is written; None writes into the user's cache.

    Raises
    ------
    InputError
        If the present file is damaged, or the new one cannot be written.

    """
    path = preset_path(model, folder)
    table = _json(path) if path.is_file() else {}
    if table and not set(table) & {"paper", "fast", MADE_ON}:
        table = {"paper": table}  # as written before `fast` existed
    if folder is None:
        table[MADE_ON] = identity(model)
    table["fast"] = {**table.get("fast", {}), kind: dict(settings)}
    try:
        with atomic_file(path) as new:
            new.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    return path


def _tuned(model: Any) -> tuple[Path, dict[str, Any], SteeringPresets] | None:
    hashes: dict[str, str] | None = None
    for path, table, presets in _recognised(_cached_files()):
        hashes = hashes or weight_hashes(model)
        if same_weights(table[MADE_ON]["weights"], hashes):
            return path, table, presets
    return None


def _cached_files() -> list[Path]:
    try:
        return sorted(cache_folder("presets").glob("*.json"))
    except RuntimeError:  # a user without a home has no cache
        return []


@cache
def _shipped() -> list[tuple[dict[str, Any], SteeringPresets]]:
    return [(table[MADE_ON], presets) for _, table, presets in _recognised(data_path("presets").glob("*.json"))]


def _recognised(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any], SteeringPresets]]:
    """Yield the files of settings for recognised weights: path, content, and the settings in it."""
    for path in sorted(paths):
        table = _json(path)
        made_on = table.get(MADE_ON) if isinstance(table, dict) else None
        if not isinstance(made_on, dict) or not isinstance(made_on.get("weights"), dict) or "name" not in made_on:
            raise InputError(f"{path} does not name the weights that its settings are for; repair or remove it")
        yield path, table, _presets(path, {name: own for name, own in table.items() if name != MADE_ON})


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a table of settings in JSON ({error}); repair or remove it") from error


def _presets(path: Path, table: Any) -> SteeringPresets:
    try:
        presets = SteeringPresets.of(table)
        for settings in (*presets.paper.values(), *presets.fast.values()):
            SteeringConfig(**settings)
    except InputError as error:
        raise InputError(f"{path}: {error}; repair or remove it") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a table of settings in JSON ({error}); repair or remove it") from error
    return presets
