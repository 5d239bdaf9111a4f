"""Checks of single settings, which every settings class shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args

from pplm.errors import InputError

LARGEST = 3.4028234663852886e38
"""The largest float32 number; steering computes in float32."""


def check_type(name: str, value: Any, kind: Any) -> Any:
    """Return a setting's value if it has the given type: a plain type, one that may be None, or a `Literal`.

    Numbers of other libraries, such as NumPy's, become plain ones.

    Raises
    ------
    InputError
        With the setting's name and value.

    """
    choices = get_args(kind)
    if NoneType in choices:
        if value is None:
            return None
        (kind,), choices = [choice for choice in choices if choice is not NoneType], ()
    if choices:
        if value not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
        return value
    accepted = {float: Real, int: Integral}.get(kind, kind)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{name} must be of type {kind.__name__}; got {value!r}")
    return value if isinstance(value, int | float) else kind(value)


def check_whole(name: str, value: Any, low: int = 0) -> int:
    """Return a whole number as a plain `int`, NumPy's included.

    Raises
    ------
    InputError
        If it is not a whole number, or is below `low`.

    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}; got {value!r}")
    return int(value)


def check_seeds(seed: Any, count: int) -> list[int] | None:
    """Return the seed of each of `count` prompts, given one for all or one for each; None for None.

    Raises
    ------
    InputError
        If a seed is not a whole number of at least 0, or there are more or fewer seeds than prompts.

    """
    if seed is None:
        return None
    seeds = list(seed) if isinstance(seed, Sequence) and not isinstance(seed, str) else [seed] * count
    if len(seeds) != count:
        raise InputError(f"seed lists {len(seeds)} seeds for {count} prompts; give one for all, or one for each")
    return [check_whole("seed", own) for own in seeds]


def check_layers(layers: Any) -> int | float:
    """Return a count of layers (>= 0) or a share of them (above 0, below 1); 1.0, which could mean either, is refused.

    Raises
    ------
    InputError
        With the value.

    """
    if isinstance(layers, Integral) and not isinstance(layers, bool) and int(layers) >= 0:
        return int(layers)
    if isinstance(layers, Real) and 0 < float(layers) < 1:
        return float(layers)
    raise InputError(f"layers must be a whole number of at least 0, or a share between 0 and 1; got {layers!r}")


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting that is outside its range, not finite or too large for float32.

    Raises
    ------
    InputError
        With the setting's name and value, and the range.

    """
    # Not math.isfinite(value), which raises OverflowError for an int beyond a float's range.
    if not low <= value <= high or value == math.inf:
        wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise InputError(f"{name} must be finite and {wanted}; got {value}")
    if value > LARGEST:
        raise InputError(f"{name} must be at most {LARGEST:.2g}, the largest number of float32; got {value}")


def check_target(target: Any) -> dict[str, float] | float | None:
    """Return a wanted level (above 0, below 1), or levels by name of attribute, as plain numbers; None as it is.

    Raises
    ------
    InputError
        With the level, and the attribute's name.

    """
    if target is None:
        return None
    if isinstance(target, Mapping):
        if not target or not all(isinstance(name, str) and name for name in target):
            raise InputError(f"target must be a level, or levels by name of attribute; got {target!r}")
        return {name: _level(f"target of {name!r}", level) for name, level in target.items()}
    return _level("target", target)


def _level(name: str, value: Any) -> float:
    level: float = check_type(name, value, kind=float)
    if not 0 < level < 1:
        raise InputError(f"{name} must be above 0 and below 1; got {value!r}")
    return level
