"""What is measured of one steered text: its tokens, its attributes, and the words of its bags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pplm.config import SteeringConfig
from pplm.generated_text import Generation


@dataclass(frozen=True)
class Level:
    """An attribute's level at one token, or its mean over a text.

    Attributes
    ----------
    unsteered, final
        In the unsteered distribution and in the one after the geometric mean.
    drawn
        In the distribution that the token was drawn from, after repetition penalty, temperature, top-k and top-p. None
        for attribute models without words, where it is not measured.

    """

    unsteered: float
    final: float
    drawn: float | None = None

    @property
    def gain(self) -> float:
        """What steering added; below 0 where it took away."""
        return self.final - self.unsteered

    def record(self) -> dict[str, float]:
        """Return the numbers with the gain, for JSON."""
        return {**asdict(self), "gain": self.gain}


@dataclass(frozen=True)
class WordFacts:
    """One word of a bag in one text.

    Attributes
    ----------
    word
        As the bag lists it.
    reach
        "begun": steering can begin it; "completed": its first token is too common to be rewarded, only its later
        tokens are credited; "unspelt": the tokenizer cannot spell it.
    total
        Sum over tokens of the word's part of the level: about how often it is to be expected in the text.
    best_token, best_gain
        Where it gained most, and how much; None and 0 where it gained nowhere.
    written
        How often it is in the completion.

    """

    word: str
    reach: str
    total: Level
    best_token: int | None
    best_gain: float
    written: int

    def record(self) -> dict[str, Any]:
        """Return all fields for JSON."""
        return {**vars(self), "total": self.total.record()}


@dataclass(frozen=True)
class AttributeFacts:
    """What one attribute model did to one text.

    Attributes
    ----------
    name, kind, weight, avoids
        Of the attribute model.
    target
        The level that was asked for; None without a target.
    acted
        At how many tokens it steered.
    loss_fall
        By how many nats the steps lowered its loss, on average over these tokens; None if there are none.
    pull
        Smallest mean cosine between its gradient and another attribute's; None if it is the only attribute.
    level
        Its mean over tokens; None where the loss is not -log of a probability.
    reached
        The text's level at its end: for a bag the mean over tokens, for a head its class's probability given the text.
    words
        The words of a bag, those with the largest gain first.

    """

    name: str
    kind: str
    weight: float
    avoids: bool
    target: float | None
    acted: int
    loss_fall: float | None
    pull: float | None
    level: Level | None
    reached: float | None
    words: tuple[WordFacts, ...] = ()

    @property
    def begun(self) -> int:
        """How many of the words steering can begin."""
        return sum(word.reach == "begun" for word in self.words)

    @property
    def written(self) -> int:
        """How many times the completion has one of the words."""
        return sum(word.written for word in self.words)

    def record(self) -> dict[str, Any]:
        """Return all fields for JSON."""
        level = None if self.level is None else self.level.record()
        return {**vars(self), "level": level, "words": [word.record() for word in self.words]}


@dataclass(frozen=True)
class TokenFacts:
    """What steering did at one new token.

    Attributes
    ----------
    token_id, text
        The token.
    moved
        Whether the history was moved before it.
    gradient_norm
        Of the first step, over all moved layers; None where nothing was moved.
    step_length
        Norm of the whole movement that the steps made in the history; None where they made none.
    loss_fall
        By how many nats the steps lowered the weighted loss; None where nothing was moved.
    kl
        Divergence of the steered distribution from the unsteered one, before the geometric mean, in nats; None where
        nothing was moved.
    gm_scale
        The steered distribution's share in the geometric mean.
    final_kl
        Divergence of the outcome from the unsteered distribution, in nats: what the budget counts.
    levels
        By attribute, of those that have one.
    words
        By bag, the words that gained most here, with their gains; at most three.

    """

    token_id: int
    text: str
    moved: bool
    gradient_norm: float | None
    step_length: float | None
    loss_fall: float | None
    kl: float | None
    gm_scale: float
    final_kl: float
    levels: Mapping[str, Level] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return all fields for JSON."""
        return {**vars(self), "levels": {name: level.record() for name, level in self.levels.items()}}


@dataclass(frozen=True)
class TextFacts:
    """All that was measured of one text; the causes are read off it.

    Attributes
    ----------
    text
        The text, whose `trace` holds the tensors.
    steering
        The settings.
    attributes, tokens
        What was measured.
    warnings
        What generation warned of.

    """

    text: Generation = field(repr=False)
    steering: SteeringConfig
    attributes: tuple[AttributeFacts, ...]
    tokens: tuple[TokenFacts, ...] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def moved(self) -> int:
        """At how many tokens the history was moved."""
        return sum(token.moved for token in self.tokens)

    @property
    def budget(self) -> float | None:
        """Nats per token that the dial allows; None where a fixed step size has no budget."""
        return self.steering.budget if self.steering.dialled else None

    @property
    def spent(self) -> float:
        """Mean divergence from the unsteered distribution, in nats per token, before temperature and top-k."""
        return sum(token.final_kl for token in self.tokens) / len(self.tokens)

    @property
    def pushing(self) -> tuple[AttributeFacts, ...]:
        """The attributes that the text is to be steered towards or away from: those whose weight is not 0."""
        return tuple(own for own in self.attributes if own.weight)
