"""The mean levels of a job's attributes: one warning of the targets that were missed, not one a batch."""

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
    """Of all texts so far, for each set of attributes and targets; in little memory however many texts there are."""

    def __init__(self) -> None:
        self._means: dict[tuple[tuple[str, ...], str], _Mean] = {}

    def add(
        self, attributes: Sequence[WeightedAttribute], steering: SteeringConfig, texts: Sequence[Generation]
    ) -> None:
        """Count texts in."""
        if steering.target is None or not attributes:
            return
        key = (tuple(attribute.name for attribute in attributes), repr(steering.target))
        sums = self._means.setdefault(key, _Mean(attributes, steering)).sums
        for text in texts:
            for name, level in text.levels.items():
                total, count = sums.get(name, (0.0, 0))
                sums[name] = (total + level, count + 1)

    def warn(self) -> None:
        """Warn of targets that were missed."""
        for mean in self._means.values():
            levels = {name: total / count for name, (total, count) in mean.sums.items()}
            warn_of_missed(mean.attributes, mean.steering, [levels])
