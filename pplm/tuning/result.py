"""What tuning found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pplm.attached import attach, attached
from pplm.comparison.bootstrap import Interval
from pplm.errors import InputError
from pplm.models.presets_file import save_preset, with_tuned


@dataclass(frozen=True)
class TunedRow:
    """The numbers of one choice of settings.

    Attributes
    ----------
    name
        The settings in words, or "unsteered".
    texts
        How many were drawn.
    levels
        By attribute: the mean level of the texts (`Generation.levels`), with its interval.
    against
        The ratio of their level to the best candidate's, for the same prompts and random numbers, with its interval, at
        their last comparison; None for the best, for unsteered texts and for lowered strengths.
    final_kl
        Mean divergence from the unsteered distribution, in nats per token.
    repeats
        Share of words that repeat the one before.
    perplexity
        As the judge reads the texts; NaN without a judge.
    seconds_per_token
        Of the batches in which the texts were drawn.
    outcome
        What became of these settings, in words.

    """

    name: str
    texts: int
    levels: Mapping[str, tuple[float, Interval]]
    against: tuple[float, Interval] | None
    final_kl: float
    repeats: float
    perplexity: float
    seconds_per_token: float
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The settings that were chosen, and why.

    Attributes
    ----------
    kind
        The kind of preset that these are, by the kinds of the attribute models.
    settings
        Fields of `SteeringConfig`: strength, layers, num_iterations.
    rows
        Unsteered texts, the candidates and, if the strength was lowered, each strength that was tried.
    undecided
        Whether several candidates were left at the end; the cheapest of them was then taken.
    within_budget
        Whether the texts keep within the budget of fluency.
    reasons
        Sentences that explain the choice.
    seconds
        How long tuning took.

    """

    kind: str
    settings: Mapping[str, Any]
    rows: tuple[TunedRow, ...]
    undecided: bool
    within_budget: bool
    reasons: tuple[str, ...]
    seconds: float

    @property
    def presets(self) -> dict[str, Any]:
        """The choice as a table that `pplm.SteeringPresets.of` reads."""
        return {"fast": {self.kind: dict(self.settings)}}

    def save(self, model: Any, folder: str | Path | None = None) -> Path:
        """Write the choice to a file that `load_model` reads; without `folder`, `model` takes it from now on as well.

        Parameters
        ----------
        model
            The one that was tuned.
        folder
            Write into `steering.json` in this folder, such as the model's own; None writes into the user's cache, for
            models with these weights, wherever they are loaded from. Kinds tuned earlier are kept.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InputError
            If the texts are not within the budget, or the file cannot be read or written.

        """
        if not self.within_budget:
            raise InputError("these settings break the budget of fluency; raise the budget, or tune again")
        path = save_preset(model, self.kind, self.settings, folder)
        own = attached(model)
        if folder is None:
            attach(model, replace(own, presets=with_tuned(own.presets, self.presets)))
        return path
