"""What `tune` tries, and how many texts it may draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pplm.checks import check_layers, check_whole
from pplm.comparison.budget import Budget
from pplm.errors import InputError
from pplm.presets import USUAL_STRENGTH

OPENINGS = (
    "Yesterday morning",
    "The first thing she noticed",
    "Most people believe that",
    "A few years ago",
    "My neighbour told me",
    "At the end of the street",
    "The letter began with",
    "Nobody expected",
    "He opened the door and",
    "When the meeting was over",
    "There are three reasons why",
    "The old house",
    "In the afternoon we",
    "The teacher explained that",
    "What I like about",
    "After a long day",
    "The new report",
    "They had been waiting for",
    "On the table lay",
    "Every now and then",
)
"""Neutral prompts; no report measures with any of them."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Which settings are compared, on how many texts, and what steering may cost.

    Attributes
    ----------
    strength
        The dial's strength, for all candidates (above 0, at most 1); all spend about the same divergence.
    layers
        How many of the last layers a candidate moves, or which share of all layers, as in `SteeringConfig.layers`.
    num_iterations
        The first (>= 1) is tried with all `layers`, the others with the two best of these.
    texts
        At most this many texts per candidate, in rounds of one text per prompt; rounded down to whole rounds.
    minutes
        Time limit (above 0). The comparison may take 70% of it; lowering the strength may go on until 125% of it. A
        round that has begun is finished.
    new_tokens
        Length of a text's completion, in tokens (>= 1).
    prompts
        At least two, all different: intervals come from drawing them again and again.
    budget
        What steering may cost in fluency; perplexity counts only where there is a judge.
    seed
        Same seed, same texts (>= 0).
    top_k
        Tokens are drawn from this many of the likeliest (>= 0; 0 draws from all).
    max_batch_size
        Texts generated at once (>= 1).

    Raises
    ------
    InputError
        If a value is outside its range.

    """

    strength: float = USUAL_STRENGTH
    layers: tuple[int | float, ...] = (1, 0.15, 0.3, 0.5)
    num_iterations: tuple[int, ...] = (1, 3)
    texts: int = 240
    minutes: float = 8.0
    new_tokens: int = 40
    prompts: tuple[str, ...] = OPENINGS
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    top_k: int = 10
    max_batch_size: int = 32

    def __post_init__(self) -> None:
        """Check every field."""
        if not 0 < self.strength <= 1:
            raise InputError(f"strength must be above 0 and at most 1; got {self.strength}")
        if not 0 < self.minutes < math.inf:
            raise InputError(f"minutes must be above 0 and finite; got {self.minutes}")
        for name, low in (("texts", 1), ("new_tokens", 1), ("seed", 0), ("top_k", 0), ("max_batch_size", 1)):
            check_whole(name, getattr(self, name), low)
        checks: dict[str, Callable[[object], object]] = {
            "layers": check_layers,
            "num_iterations": lambda value: check_whole("num_iterations", value, 1),
            "prompts": lambda value: value,
        }
        for name, check in checks.items():
            given = getattr(self, name)
            if isinstance(given, str | int | float) or not given:
                raise InputError(f"{name} must be a list of at least one value; got {given!r}")
            object.__setattr__(self, name, tuple(check(value) for value in given))
        if len(set(self.prompts)) < max(2, len(self.prompts)):
            raise InputError(
                f"prompts must be at least two, all different; got {len(self.prompts)}, {len(set(self.prompts))} of "
                "them different"
            )
        if self.texts < len(self.prompts):
            raise InputError(
                f"texts is {self.texts}, less than one for each of {len(self.prompts)} prompts; raise it, or give "
                "fewer prompts"
            )

    @property
    def rounds(self) -> int:
        """How many texts per prompt a candidate gets at most."""
        return self.texts // len(self.prompts)
