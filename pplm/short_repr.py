"""Short representations for dataclasses that hold tensors: what `print` and a debugger show of them."""

from __future__ import annotations

import reprlib
from dataclasses import fields
from typing import Any


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
