"""The mean levels of a job's attributes: for one warning about missed targets at the end, not one per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pplm.config import SteeringConfig
from pplm.generated_text import Generation
from pplm.interface import WeightedAttribute
from pplm.text.aims import warn_of_missed


@dataclass
class _Mean:
    attributes: Sequence[WeightedAttribute]
    steering: SteeringConfig
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)


class MeanLevels:
    """Mean levels of all texts so far, for each set of attributes and targets; memory does not grow with the texts."""

    def __init__(self) -> None:
        self._means: dict[tuple[tuple[str, ...], str], _Mean] = {}

    def add(
        self, attributes: Sequence[WeightedAttribute], steering: SteeringConfig, texts: Sequence[Generation]
    ) -> None:
        """Include more texts in the means."""
        if steering.target is None or not attributes:
            return
        key = (tuple(attribute.name for attribute in attributes), repr(steering.target))
        sums = self._means.setdefault(key, _Mean(attributes, steering)).sums
        for text in texts:
            for name, level in text.levels.items():
                total, count = sums.get(name, (0.0, 0))
                sums[name] = (total + level, count + 1)

    def warn(self) -> None:
        """Warn about targets that the means missed."""
        for mean in self._means.values():
            levels = {name: total / count for name, (total, count) in mean.sums.items()}
            warn_of_missed(mean.attributes, mean.steering, [levels])
