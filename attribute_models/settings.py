"""How a head is trained and on which features: frozen objects that validate themselves and need no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pplm.checks import check_range, check_type, check_whole
from pplm.errors import InputError


@dataclass(frozen=True)
class FeatureOptions:
    """Which beginnings of a text are pooled in addition to the whole text.

    Attributes
    ----------
    prefix_lengths
        In tokens (each >= 1), not counting the beginning-of-text token. A shorter text is taken whole.
    random_prefixes
        Number of beginnings of random length per text, from 2 tokens to the whole text (>= 0; 0 turns them off).
    prefix_seed
        Seed of the random lengths.

    """

    prefix_lengths: tuple[int, ...] = (5, 10, 20)
    random_prefixes: int = 2
    prefix_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse lengths below 1, negative counts and what is no whole number."""
        lengths = tuple(check_whole("each of prefix_lengths", length, 1) for length in self.prefix_lengths)
        object.__setattr__(self, "prefix_lengths", lengths)
        object.__setattr__(self, "random_prefixes", check_whole("random_prefixes", self.random_prefixes))


@dataclass(frozen=True)
class ClassMeansOptions:
    """How many texts per class the mean hidden states are computed from (>= 0; 0 makes none)."""

    texts_per_class: int = 500


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a head is trained.

    Attributes
    ----------
    validation_fraction, test_fraction
        Shares of the texts, each above 0 and together below 1.
    seed
        Seed of the split (>= 0).
    random_prefixes
        Number of beginnings of random length that each text adds to the training (>= 0; 0 trains on whole texts only).
    prefix_lengths
        Lengths in tokens (each >= 1) of the beginnings that the report grades.
    l2
        Penalties to try, each >= 0; the one with the lowest validation loss is taken. The strongest are tried first,
        and the search ends after two in a row do worse than the best.
    balance_classes
        Weigh texts so that every class counts the same, however many texts it has; the head's probabilities then
        assume classes of equal size.
    max_iterations
        L-BFGS iterations per penalty (>= 1).
    batch_tokens
        Positions that the language model reads at once (>= 1); lower it when memory runs out.
    class_mean_texts
        Texts per class whose hidden states are averaged layer by layer, for contrastive activation addition in
        `pplm evaluate` (>= 0; 0 stores none).

    Raises
    ------
    InputError
        If a value is outside its range.

    """

    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    random_prefixes: int = 2
    prefix_lengths: tuple[int, ...] = (5, 10, 20)
    l2: tuple[float, ...] = (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    balance_classes: bool = True
    max_iterations: int = 100
    batch_tokens: int = 2048
    class_mean_texts: int = ClassMeansOptions.texts_per_class

    def __post_init__(self) -> None:
        """Check every value."""
        lowest = {"validation_fraction": 0.0, "test_fraction": 0.0, "seed": 0, "max_iterations": 1, "batch_tokens": 1}
        lowest["class_mean_texts"] = 0
        for name, low in lowest.items():
            check_type(name, getattr(self, name), type(low))
            check_range(name, getattr(self, name), low)
        fractions = {"validation_fraction": self.validation_fraction, "test_fraction": self.test_fraction}
        if not (all(fractions.values()) and sum(fractions.values()) < 1):
            raise InputError(
                "validation_fraction and test_fraction must be above 0 and together leave texts to train on; got "
                f"{fractions}"
            )
        if not self.l2 or not all(math.isfinite(value) and value >= 0 for value in self.l2):
            raise InputError(f"l2 must be finite numbers of at least 0; got {list(self.l2)}")
        self.features  # noqa: B018 -- made here so that it checks its two fields

    @property
    def features(self) -> FeatureOptions:
        """The beginnings to pool: the same lengths and number of random ones."""
        return FeatureOptions(self.prefix_lengths, self.random_prefixes)
