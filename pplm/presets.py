"""Which settings a model's own folder wants, by the kind of attribute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pplm.config import PAPER_PRESETS, SteeringConfig
from pplm.errors import InputError

PRESET_NAMES = (*PAPER_PRESETS, "mixture")
PRESETS_FILE = "steering.json"
"""A model folder may hold its own settings in this file: `{"bag_of_words": {"step_size": ...}, "discriminator": ...,
"mixture": ...}`, each over the paper's."""


def read_presets(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
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
        presets = json.loads(path.read_text(encoding="utf-8"))
        for name, settings in presets.items():
            if name not in PRESET_NAMES:
                raise InputError(f"{name!r} is none of {', '.join(PRESET_NAMES)}")
            SteeringConfig(**settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no table of settings in JSON ({error}); repair or remove it") from error
    return presets
