"""The settings of a comparison and of a sweep, in frozen objects that validate themselves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pplm.comparison.budget import Budget
from pplm.comparison.methods import PAPER_METHODS, check_methods, reranks
from pplm.comparison.pool import PoolPlan
from pplm.comparison.rivals import RIVALS
from pplm.config import SteeringConfig, setting_types
from pplm.errors import InputError
from pplm.presets import ATTRIBUTE_KINDS
from pplm.rerank import Rerank


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """Which methods are compared, and how the best candidate is chosen.

    Attributes
    ----------
    methods
        Some of B (unsteered), BR (the best unsteered candidate), BC (steered), BCR (the best steered candidate), and
        of the rivals WD, FUDGE, CAA and PROMPT (docs/rivals.md).
    strengths
        Strengths of rivals, by name; each rival has a default. 0 gives unsteered text.
    min_distinct
        BR and BCR exclude candidates whose mean of Dist-1, Dist-2 and Dist-3 is lower (0 to 1; 0 excludes none).
    fluency
        How much it counts for BR and BCR that the unsteered language model finds a candidate probable (`Rerank`).
    all_candidates
        Measure every candidate as well, not only the first and the best.

    """

    methods: tuple[str, ...] = PAPER_METHODS
    strengths: Mapping[str, float] = field(default_factory=dict)
    min_distinct: float = Rerank.min_distinct
    fluency: float = Rerank.fluency
    all_candidates: bool = False

    def __post_init__(self) -> None:
        """Check the methods, the rivals' strengths, and how the best candidate is chosen."""
        object.__setattr__(self, "methods", check_methods(self.methods))
        for name, strength in self.strengths.items():
            if name not in RIVALS or name not in self.methods:
                known = ", ".join(name for name in self.methods if name in RIVALS) or "none"
                raise InputError(
                    f"strengths has {name}, which is not among the rivals in methods ({known}); leave it out, or add "
                    "the rival to methods"
                )
            RIVALS[name].check_strength(name, strength)
        rerank = Rerank(min_distinct=self.min_distinct, fluency=self.fluency)
        for name in ("min_distinct", "fluency"):  # as plain numbers, for the report
            object.__setattr__(self, name, getattr(rerank, name))
        if not any(map(reranks, self.methods)):
            for name, value in (("min_distinct", rerank.min_distinct), ("fluency", rerank.fluency)):
                if value != getattr(Rerank, name):
                    raise InputError(f"{name} {value:g} is for BR and BCR; add one to methods, or leave {name} out")

    def rerank(self, plan: PoolPlan) -> Rerank:
        """Return how the best candidate of a pool is chosen."""
        return Rerank(plan.samples, self.min_distinct, self.fluency)

    def needs(self, plan: PoolPlan) -> PoolPlan:
        """Return the plan with the candidates that these methods need: just one where only the first is used.

        Raises
        ------
        InputError
            If the plan has too few samples.

        """
        rank = any(map(reranks, self.methods))
        if not rank and not self.all_candidates:
            return replace(plan, samples=1, rank=False)
        if plan.samples < 2:
            why = "BR and BCR" if rank else "all_candidates"
            raise InputError(f"samples must be at least 2 for {why}; got {plan.samples}")
        return replace(plan, rank=rank)


@dataclass(frozen=True)
class SweepSettings:
    """Which settings are tried, and what they may cost.

    Attributes
    ----------
    vary
        The values to try, by field of `SteeringConfig`, such as {"step_size": [.1, .2]}, or by field of one kind's
        step, such as {"discriminator.step_size": [.1, .2]}; all combinations are tried.
    budget
        What steering may cost.

    """

    vary: Mapping[str, Sequence[Any]]
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        """Check every value against its field."""
        known = setting_types()
        if not self.vary or not all(self.vary.values()) or set(self.vary) - set(known):
            raise InputError(f"vary must list values for some of {', '.join(known)}; got {dict(self.vary)}")
        steps = dict.fromkeys(ATTRIBUTE_KINDS, SteeringConfig().step)
        for point in self.points:
            dial = {name: point[name] for name in ("strength", "target") if name in point}
            SteeringConfig(steps=steps, **dial).changed(**point)

    @property
    def points(self) -> list[dict[str, Any]]:
        """Every combination of the values."""
        return [dict(zip(self.vary, values, strict=True)) for values in itertools.product(*self.vary.values())]
