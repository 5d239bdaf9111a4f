"""The machine and the package versions on which something was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("torch", "transformers")


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Return processor, cores, torch's threads, device, system and package versions, ready for JSON."""
    described: dict[str, str | int] = {
        "processor": _processor(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return described | {name: version(name) for name in _PACKAGES}


def _processor() -> str:
    """Return the processor's name: Linux keeps it where `platform` does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _cores() -> int:
    """Return the number of cores that this process may use if the system reports it, else of all cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
