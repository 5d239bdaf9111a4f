"""Seeds of which every bit counts: torch's CPU generator keeps only 32 bits of what `manual_seed` is given."""

from __future__ import annotations

import numpy as np

_KEPT = 2**32


def torch_seed(seed: int) -> int:
    """Return the number to give to `manual_seed`: below 2^32, and dependent on every bit of `seed` (>= 0).

    A seed below 2^32 is returned as it is.
    """
    if seed < _KEPT:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
