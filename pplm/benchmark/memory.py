"""How much more memory a piece of work needs at its peak than was in use before it.

Weights and everything else that was in memory before do not count. On CUDA the number comes from torch's allocator. On
a CPU it is the resident memory of this process: on Linux the kernel's high-water mark, which misses nothing, elsewhere
a sample every millisecond, which can miss a shorter peak. Other devices keep no such record.

Resident memory holds more than the tensors: the C library keeps freed blocks for reuse, more or fewer depending on
what ran before. 16 samples of 200 tokens with the embedded model measured 313 to 380 MB, depending on the order of the
cases, and 258 to 263 MB with `MALLOC_MMAP_THRESHOLD_=65536` in the environment, which makes glibc return large blocks
as soon as they are freed.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from pplm.batching import return_free_memory

_MEGABYTE = 1e6
_SAMPLE_SECONDS = 0.001
_PROCESS = Path("/proc/self")
_RESET_HIGH_WATER = "5"
"""What Linux wants written to `clear_refs` to start a new high-water mark (man 5 proc)."""


def peak_memory_mb(work: Callable[[], object], device: torch.device) -> float | None:
    """Do some work and return its peak memory in MB (10^6 bytes) above what was in use before.

    None on a device that keeps no record. Free blocks that the C library kept from earlier work are returned to the
    system first, as far as it can.
    """
    gc.collect()
    if device.type == "cuda":
        return _peak_on_cuda(work, device)
    if device.type != "cpu":
        work()
        return None
    return_free_memory()
    if not _reset_high_water():
        return _peak_by_sampling(work)
    before = _resident_kilobytes("VmRSS")
    work()
    return (_resident_kilobytes("VmHWM") - before) * 1024 / _MEGABYTE


def _peak_on_cuda(work: Callable[[], object], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / _MEGABYTE


def _peak_by_sampling(work: Callable[[], object]) -> float:
    process = psutil.Process()
    before = highest = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(_SAMPLE_SECONDS):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return (max(highest, process.memory_info().rss) - before) / _MEGABYTE


def _reset_high_water() -> bool:
    """Start a new high-water mark; return False where the kernel has none."""
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_HIGH_WATER, encoding="ascii")
    except OSError:
        return False
    return True


def _resident_kilobytes(field: str) -> int:
    lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
