"""Work on many rows in batches that fit into memory: a batch that does not fit is halved, with a warning."""

from __future__ import annotations

import ctypes
import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from pplm.errors import InputError

Row = TypeVar("Row")
Result = TypeVar("Result")
logger = logging.getLogger(__name__)

_CPU_MESSAGES = ("DefaultCPUAllocator: can't allocate memory", "std::bad_alloc")
"""In the messages of the CPU's allocators, which raise no exception type of their own."""
_KEPT = 2**25
"""Bytes by which a process may grow before free memory is returned to the system, which takes about 10 ms."""
_TOO_LARGE = "memory runs out for a single text"


def in_batches(
    rows: Sequence[Row],
    size: int | None,
    run: Callable[[Sequence[Row]], list[Result]],
    *,
    without: Result | None = None,
) -> list[Result]:
    """Return the results of `run` for all rows, in order.

    Parameters
    ----------
    rows
        What to work on.
    size
        Rows at once; None takes all. Halved, with a warning, whenever memory runs out. In half precision rounding
        depends on it, so sampled texts may then differ.
    run
        Maps some rows to their results; it may be called again for the same rows.
    without
        What stands in, with a warning, for the result of a row that does not fit alone; None refuses such a row.

    Raises
    ------
    InputError
        If a single row does not fit and `without` is None.

    """
    size = min(size or len(rows), len(rows))
    results: list[Result] = []
    while len(results) < len(rows):
        batch = rows[len(results) : len(results) + size]
        try:
            results += run(batch)
            _GROWTH.limit()
            continue
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1 and without is None:
                raise InputError(f"{_TOO_LARGE}; use a smaller model, a lower dtype or a shorter text") from error
        # Outside the handler, because the exception keeps the failed attempt's tensors alive.
        _release()
        if len(batch) == 1 and without is not None:
            results.append(without)
            logger.warning("%s; text %d of %d goes without the result", _TOO_LARGE, len(results), len(rows))
            continue
        size = (len(batch) + 1) // 2
        logger.warning("memory ran out with %d texts at once; continuing with %d", len(batch), size)
    return results


def in_like_lengths(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group the rows of texts of similar length, the longest first (so that a lack of memory shows at once).

    A group's texts, padded to the longest, have at most `batch_tokens` positions in all; a longer text is a group of
    its own.
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out, on any device."""
    import torch  # here, because the command line imports this module to show its help

    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(message in str(error) for message in _CPU_MESSAGES)


def return_free_memory() -> None:
    """Let glibc return to the system what it keeps for reuse; other C libraries have no such call and keep less."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Growth:
    """What batches leave behind in this process: free memory in fragments, by which a long job would keep growing."""

    def __init__(self) -> None:
        self._bytes = 0

    def limit(self) -> None:
        """Return free memory to the system if the process holds `_KEPT` bytes more than when that was last done."""
        resident = self._resident()
        if resident > self._bytes + _KEPT:
            return_free_memory()
            self._bytes = self._resident()
        self._bytes = min(self._bytes, resident)  # memory that a deleted model freed is no allowance for growth

    @staticmethod
    def _resident() -> int:
        import psutil  # here, as torch is

        return psutil.Process().memory_info().rss


_GROWTH = _Growth()


def _release() -> None:
    import torch

    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.memory.empty_cache()
