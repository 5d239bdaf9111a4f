"""A confusion matrix as a picture; needs matplotlib (the `plot` extra)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pplm.errors import InputError
from pplm.files.figures import new_figure, save_figure

logger = logging.getLogger(__name__)


def plot_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Write a (C, C) confusion matrix as a png; without matplotlib, log why there is none."""
    size = min(12.0, 2.5 + 0.6 * len(labels))
    try:
        figure = new_figure(figsize=(size, size), layout="constrained")
    except InputError as error:
        logger.info("no %s: %s", path.name, error)
        return
    axes = figure.add_subplot()
    totals = [max(1, sum(row)) for row in confusion]
    shares = [[count / total for count in row] for row, total in zip(confusion, totals, strict=True)]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for i, row in enumerate(confusion if len(labels) <= 20 else []):
        for j, count in enumerate(row):
            axes.text(j, i, str(count), ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black")
    save_figure(figure, path)
