"""How single values of a trace are shown: numbers in a reader's units, and characters that HTML cannot hold."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

SHADES = (0.001, 0.01, 0.05, 0.2, 0.5)
"""A token is shaded 1, 2, ... from these gains on, up or down; the same in every trace, to compare them."""
_LEAST = 1e-5
"""Smaller values are not shown as numbers."""
_NOT_HTML = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def shade(gain: float | None) -> int:
    """Return how dark a token of this gain is shaded: 0 to 5, negative where steering lowered the attribute."""
    if gain is None:
        return 0
    depth = sum(abs(gain) >= least for least in SHADES)
    return -depth if gain < 0 else depth


def percent(share: float | None) -> str:
    """Return a share as a percentage of three significant digits, "—" where there is none."""
    if share is None:
        return "—"
    return "<0.001%" if 0 < share < _LEAST else f"{_digits(share * 100)}%"


def points(gain: float | None) -> str:
    """Return a difference of two shares with its sign, in percentage points, "—" where there is none."""
    if gain is None:
        return "—"
    if abs(gain) < _LEAST:
        return "±0 points"
    return f"{'+' if gain > 0 else '-'}{_digits(abs(gain) * 100)} points"


def number(value: float | None) -> str:
    """Return a number of three significant digits, "—" where there is none."""
    return "—" if value is None else _digits(value)


def setting(value: Any) -> str:
    """Return a setting's value in full."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def explained(attribute: dict[str, Any]) -> str:
    """Return what an attribute's level is, in words."""
    if attribute["words"]:
        return "probability of its words"
    return f"probability of “{attribute['label']}”" if attribute["label"] else "level"


def clean(value: Any) -> Any:
    """Replace the characters of a text that no HTML file can hold; leave other values and markup as they are."""
    return _NOT_HTML.sub("\ufffd", value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent. page.js does the same."""
    if 0 < abs(value) < _LEAST:
        return "≈0"
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if abs(rounded) >= 100 else f"{rounded:.8f}".rstrip("0").rstrip(".")
