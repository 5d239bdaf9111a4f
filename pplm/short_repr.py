"""Short representations of long values: of dataclasses that hold tensors, and of texts inside messages."""

from __future__ import annotations

import reprlib
from dataclasses import fields
from typing import Any

_LONGEST = 240
_KEPT_AT_START, _KEPT_AT_END = 60, 120


def quoted(text: str) -> str:
    """Return a text in quotes, for a message; a text of over 240 characters is cut to its beginning and its end."""
    if len(text) <= _LONGEST:
        return repr(text)
    return f"{text[:_KEPT_AT_START]!r} ... {text[-_KEPT_AT_END:]!r}"


class ShortRepr:
    """Shows tensors by their shapes and long values by their beginnings, for a dataclass with `repr=False`."""

    def __repr__(self) -> str:
        """Name every field."""
        shown = [f"{item.name}={_short(getattr(self, item.name))}" for item in fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return repr(value) if isinstance(value, ShortRepr) else reprlib.repr(value)
