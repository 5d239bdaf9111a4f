"""One seed, all of it: torch's CPU generator keeps 32 bits of what `manual_seed` is given."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from pplm.errors import InputError

_KEPT = 2**32


def check_seed(seed: Any) -> int:
    """Return a seed as an int.

    Raises
    ------
    InputError
        If it is no whole number of at least 0.

    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0; got {seed!r}")
    return int(seed)


def torch_seed(seed: int) -> int:
    """Return what to give `manual_seed`: a number below 2^32 that depends on every bit of `seed` (>= 0).

    Smaller seeds stand for themselves.
    """
    if seed < _KEPT:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
