"""Work on many rows in batches that fit into memory: a batch that does not is halved, and says so."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from pplm.errors import InputError

Row = TypeVar("Row")
Result = TypeVar("Result")
logger = logging.getLogger(__name__)

_CPU_SAYS = "DefaultCPUAllocator: can't allocate memory"
"""The CPU's allocator raises no type of its own."""


def in_batches(rows: Sequence[Row], size: int | None, run: Callable[[Sequence[Row]], list[Result]]) -> list[Result]:
    """Return the results of `run` for all rows, in order.

    Parameters
    ----------
    rows
        What to work on.
    size
        Rows at once; None takes all. Halved, with a warning, whenever memory runs out.
    run
        Maps some rows to their results; must be free to be called again for the same rows.

    Raises
    ------
    InputError
        If a single row does not fit.

    """
    size = min(size or len(rows), len(rows))
    results: list[Result] = []
    while len(results) < len(rows):
        batch = rows[len(results) : len(results) + size]
        try:
            results += run(batch)
            continue
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise InputError(
                    "memory runs out for a single text; take a smaller model, a lower dtype or a shorter text"
                ) from error
        # Outside the handler, because the exception holds the tensors of the attempt.
        size = (len(batch) + 1) // 2
        logger.warning("memory ran out with %d texts at once; going on with max_batch_size=%d", len(batch), size)
        _release()
    return results


def out_of_memory(error: RuntimeError) -> bool:
    """Say whether an error means that memory ran out, on whatever device."""
    return isinstance(error, torch.OutOfMemoryError) or _CPU_SAYS in str(error)


def _release() -> None:
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.memory.empty_cache()
