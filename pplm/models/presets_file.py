"""Steering settings on disk: beside a model's weights, or shipped with pplm for weights that are recognised."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.models.fingerprint import relation, relative_note
from pplm.models.resources import data_path
from pplm.presets import SteeringPresets

PRESETS_FILE = "steering.json"
"""`{"paper": {kind: settings}, "fast": {kind: settings}}`, each over the general ones; the kinds are "bag_of_words",
"discriminator" and "mixture". A file of kinds alone, as written before `fast` existed, is read as the paper's."""
MADE_ON = "made_on"
"""In a shipped file, beside the presets: the model that they were chosen on (`pplm.models.fingerprint.identity`)."""


def read_presets(folder: Path) -> SteeringPresets | None:
    """Return the settings that lie beside a model's weights (`steering.json`), or None if there are none.

    Raises
    ------
    InputError
        If the file is there but is not JSON, or names settings that there are not.

    """
    path = folder / PRESETS_FILE
    return _presets(path, _json(path)) if path.is_file() else None


def shipped_presets(model: Any) -> SteeringPresets:
    """Return the settings that pplm ships for these weights, wherever they lie; empty if there are none.

    Those of a relative, such as the model before it was quantised, come second and say so (`SteeringPresets.made_on`).
    """
    relatives = []
    for made_on, presets in _shipped():
        found = relation(made_on, model)
        if found == "same":
            return presets
        if found == "relative":
            relatives.append(replace(presets, made_on=relative_note(made_on["name"], model)))
    return relatives[0] if relatives else SteeringPresets()


@cache
def _shipped() -> list[tuple[dict[str, Any], SteeringPresets]]:
    found = []
    for path in sorted(data_path("presets").glob("*.json")):
        table = _json(path)
        found.append((table.pop(MADE_ON), _presets(path, table)))
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no table of settings in JSON ({error}); repair or remove it") from error


def _presets(path: Path, table: Any) -> SteeringPresets:
    try:
        presets = SteeringPresets.of(table)
        for settings in (*presets.paper.values(), *presets.fast.values()):
            SteeringConfig(**settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no table of settings in JSON ({error}); repair or remove it") from error
    return presets
