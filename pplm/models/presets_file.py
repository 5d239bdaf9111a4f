"""A model folder's own steering settings."""

from __future__ import annotations

import json
from pathlib import Path

from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.presets import SteeringPresets

PRESETS_FILE = "steering.json"
"""`{"paper": {kind: settings}, "fast": {kind: settings}}`, each over the general ones; the kinds are "bag_of_words",
"discriminator" and "mixture". A file of kinds alone, as written before `fast` existed, is read as the paper's."""


def read_presets(folder: Path) -> SteeringPresets | None:
    """Return the settings that lie beside a model's weights (`steering.json`), or None if there are none.

    Raises
    ------
    InputError
        If the file is there but is not JSON, or names settings that there are not.

    """
    path = folder / PRESETS_FILE
    if not path.is_file():
        return None
    try:
        presets = SteeringPresets.of(json.loads(path.read_text(encoding="utf-8")))
        for settings in (*presets.paper.values(), *presets.fast.values()):
            SteeringConfig(**settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no table of settings in JSON ({error}); repair or remove it") from error
    return presets
