"""A confusion matrix as a picture; needs matplotlib (the `plot` extra)."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


def plot_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> bool:
    """Write a (C, C) confusion matrix as a png; without matplotlib say so in the log and return False."""
    if importlib.util.find_spec("matplotlib") is None:
        logger.info("no confusion.png: matplotlib is missing; install pplm[plot]")
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = len(labels)
    size = min(12.0, 2.5 + 0.6 * classes)
    figure = Figure(figsize=(size, size), layout="constrained")  # not pyplot, which keeps global state
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    totals = [max(1, sum(row)) for row in confusion]
    shares = [[count / total for count in row] for row, total in zip(confusion, totals, strict=True)]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), labels, rotation=45, ha="right")
    axes.set_yticks(range(classes), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for i, row in enumerate(confusion if classes <= 20 else []):
        for j, count in enumerate(row):
            axes.text(j, i, str(count), ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black")
    figure.savefig(path, dpi=100)
    return True
