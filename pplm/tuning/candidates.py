"""What is tried: how many layers move, in how many iterations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pplm.config import SteeringConfig
from pplm.presets import DIAL_SETTINGS
from pplm.text.split import moved_layers
from pplm.tuning.settings import TuneSettings

_UNSTEERED: dict[str, Any] = {"strength": 1e-6, "layers": 1, "num_iterations": 1, "grad_length": 1}
"""Levels are measured only while something steers. A budget of 6e-13 nats, for one token, changes no text."""


@dataclass(frozen=True)
class Candidate:
    """One choice of settings.

    Attributes
    ----------
    layers, num_iterations
        As in `SteeringConfig`.
    moved
        How many layers `layers` means on this model.
    generic
        Whether these are the dial's settings for a model without settings of its own.

    """

    layers: int | float
    num_iterations: int
    moved: int
    generic: bool = False

    @property
    def cost(self) -> int:
        """Layers that a gradient passes through for one token."""
        return self.moved * self.num_iterations

    def settings(self, strength: float) -> dict[str, Any]:
        """Return the fields of a preset."""
        return {"strength": strength, "layers": self.layers, "num_iterations": self.num_iterations}

    def config(self, attributes: Sequence[Any], strength: float) -> SteeringConfig:
        """Return the settings for these attribute models."""
        return SteeringConfig.for_attributes(attributes, **self.settings(strength))

    def __str__(self) -> str:
        """Name the settings."""
        iterations = f"{self.num_iterations} iteration" + ("s" if self.num_iterations > 1 else "")
        return f"layers {self.layers}, {iterations}" + (" (generic)" if self.generic else "")


def unsteered_config(attributes: Sequence[Any]) -> SteeringConfig:
    """Return settings that write the unsteered texts, but measure their levels."""
    return SteeringConfig.for_attributes(attributes, **_UNSTEERED)


def first_candidates(settings: TuneSettings, count: int) -> list[Candidate]:
    """Return the generic choice and the other numbers of layers to try on a model with `count` layers."""
    layers, iterations = DIAL_SETTINGS["layers"], DIAL_SETTINGS["num_iterations"]
    found = [Candidate(layers, iterations, moved_layers(layers, count), generic=True)]
    for layers in settings.layers:
        candidate = Candidate(layers, settings.num_iterations[0], moved_layers(layers, count))
        if all((own.moved, own.num_iterations) != (candidate.moved, candidate.num_iterations) for own in found):
            found.append(candidate)
    return sorted(found, key=lambda own: (not own.generic, own.cost))


def more_iterations(best: Sequence[Candidate], settings: TuneSettings, tried: Sequence[Candidate]) -> list[Candidate]:
    """Return the `best` candidates with the further numbers of iterations, except for those `tried` already."""
    seen = {(own.moved, own.num_iterations) for own in tried}
    return [
        Candidate(own.layers, number, own.moved)
        for own in best
        for number in settings.num_iterations[1:]
        if (own.moved, number) not in seen
    ]
