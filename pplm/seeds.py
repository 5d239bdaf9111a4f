"""One seed, all of it: torch's CPU generator keeps 32 bits of what `manual_seed` is given."""

from __future__ import annotations

import numpy as np

_KEPT = 2**32


def torch_seed(seed: int) -> int:
    """Return what to give `manual_seed`: a number below 2^32 that depends on every bit of `seed` (>= 0).

    Smaller seeds stand for themselves.
    """
    if seed < _KEPT:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
