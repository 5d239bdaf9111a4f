"""What the paper measured, to be shown beside what is measured here.

The model is GPT-2 345M; people judged whether a text is on topic or has the right sentiment, and perplexity is GPT's
(paper, sections 4.2 and 4.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One method: share of texts with the attribute in percent, perplexity, Dist-1, Dist-2 and Dist-3."""

    attribute: float
    perplexity: float
    dist: tuple[float, float, float]


PAPER: Mapping[str, Mapping[str, PaperRow]] = {
    "topics": {
        "B": PaperRow(11.1, 39.85, (0.37, 0.79, 0.93)),
        "BR": PaperRow(15.8, 38.39, (0.38, 0.80, 0.94)),
        "BC": PaperRow(46.9, 43.62, (0.36, 0.78, 0.92)),
        "BCR": PaperRow(51.7, 44.04, (0.36, 0.80, 0.94)),
    },
    "sentiment": {
        "B": PaperRow(19.3, 42.1, (0.37, 0.75, 0.86)),
        "BR": PaperRow(41.5, 44.6, (0.37, 0.76, 0.87)),
        "BC": PaperRow(39.6, 41.8, (0.33, 0.70, 0.86)),
        "BCR": PaperRow(73.7, 46.6, (0.36, 0.77, 0.91)),
    },
}
ASKED = {"topics": "on topic", "sentiment": "right sentiment"}
"""What people were asked."""
