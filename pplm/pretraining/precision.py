"""Which number format is faster on this machine, measured rather than looked up.

Processors with matrix units for bfloat16 take about half the time with it; others only convert back and
forth and are slower.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from pplm.pretraining.blocks import Blocks
from pplm.pretraining.loss import LanguageModelLoss

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_REPEATS = 3


def faster_precision(model: nn.Module, blocks: Blocks) -> str:
    """Return the name of the number format in which a forward and a backward pass over `blocks` takes less time."""
    return min(DTYPES, key=lambda name: _seconds(LanguageModelLoss(model, DTYPES[name]), blocks))


def _seconds(loss_of: nn.Module, blocks: Blocks) -> float:
    """Return the seconds of the fastest of a few passes: the first one includes set-up."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        loss_of(blocks.input_ids, blocks.targets, blocks.position_ids).backward()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
        loss_of.zero_grad(set_to_none=True)
    return min(times)
