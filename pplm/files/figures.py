"""Figures without a window and without global state; they need matplotlib (the optional extra `plot`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.files.atomic import atomic_file

DOTS_PER_INCH = 120
"""Enough to make letters of nine points readable on a page."""


def new_figure(**settings: Any) -> Any:
    """Return an empty figure that belongs to no window and no global state.

    Raises
    ------
    InputError
        Without matplotlib.

    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError('a plot needs matplotlib; install it with: pip install "pplm[plot]"') from None
    return Figure(**settings)


def check_plot(path: Path) -> None:
    """Refuse a figure before anything is computed, if matplotlib is missing or cannot write the file's format."""
    supported = new_figure().canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in supported:
        raise InputError(f"a plot cannot be written as {path.name!r}; end its name in .png, .pdf or .svg")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format that the file's name asks for."""
    try:
        with atomic_file(path) as new:
            figure.savefig(new, dpi=DOTS_PER_INCH)
    except OSError as error:
        raise InputError(
            f"the plot {path} cannot be written: {error.strerror or error}; choose another place"
        ) from None


def plain_minor_ticks() -> Any:
    """Return a formatter that labels a logarithmic axis's minor ticks with plain numbers, where there is room."""
    from matplotlib.ticker import LogFormatter

    return LogFormatter(labelOnlyBase=False, minor_thresholds=(1, 0.4))
