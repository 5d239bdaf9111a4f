"""What a model runs on: recorded beside texts, because other versions or devices may round and sample differently."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch


def surroundings_of(model: Any) -> dict[str, Any]:
    """Return versions, device and (on a CPU) number of threads, as plain values for JSON."""
    cpu = model.device.type == "cpu"
    return {
        **{name: version(name) for name in ("pplm", "torch", "transformers")},
        "python": platform.python_version(),
        "device": model.device.type,
        "threads": torch.get_num_threads() if cpu else None,
    }
