"""`tune`: compare candidates, choose one, and lower its strength until its texts are fluent enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pplm.comparison.budget import BASE
from pplm.comparison.measures import MethodRow
from pplm.errors import InputError
from pplm.evaluation.judges import check_independent
from pplm.evaluation.perplexity_judge import PerplexityJudge
from pplm.interface import AttributeModel, bind_attributes, weigh_attributes
from pplm.models.fingerprint import tokenizer_fingerprint
from pplm.presets import request_kind
from pplm.tuning.candidates import Candidate, unsteered_config
from pplm.tuning.race import Entry, Race
from pplm.tuning.result import Tuned, TunedRow
from pplm.tuning.settings import TuneSettings
from pplm.tuning.texts import Scale, Texts, Writer

LOWER = 0.75
"""Factor on a strength whose texts break the budget."""
_LEAST_STRENGTH = 0.05
_OVERTIME = 1.25
"""Lowering the strength may take until this many times `minutes`: without a fluent strength, all was for nothing."""


def tune(
    model: Any,
    tokenizer: Any,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]],
    settings: TuneSettings | None = None,
    *,
    judge: PerplexityJudge | None = None,
    on_progress: Callable[..., None] | None = None,
) -> Tuned:
    """Find the dial's settings that show most of an attribute at a strength, within a budget of fluency.

    All candidates spend about the same divergence per token, and are compared by the levels of the attribute in their
    texts (`Generation.levels`), paired by prompt and random numbers; with several attributes, by the mean of the
    logarithms of their levels. Nothing is written to disk; see `Tuned.save`.

    Parameters
    ----------
    model, tokenizer
        As `load_model` returns them.
    attributes
        Attribute models, or (model, weight) pairs.
    settings
        What is tried, and how long; None takes the defaults.
    judge
        Another language model than the tuned one, for the budget of perplexity.
    on_progress
        Called after each round with (seconds so far, the limit in seconds, what was drawn).

    Raises
    ------
    InputError
        If no attribute model has a weight above 0, `layers` is more than the model has, or the judge is the model
        itself.

    """
    settings = settings or TuneSettings()
    weighted = weigh_attributes(attributes)
    if not any(own.weight for own in weighted):
        raise InputError("attributes must have at least one whose weight is above 0: there is nothing to tune for")
    if judge is not None:
        check_independent(judge, model, insist=False)
    bound = bind_attributes(weighted, model, tokenizer=tokenizer_fingerprint(tokenizer))
    models = [own.model for own in bound]
    scale = Scale(bound, settings)

    def enter(candidate: Candidate) -> Entry:
        return Entry(candidate, Texts(candidate.config(models, settings.strength)))

    writer = Writer(model, tokenizer, bound, settings)
    race = Race(writer, scale, settings, Texts(unsteered_config(models)), enter, on_progress)
    race.run(model.config.get_text_config(decoder=True).num_hidden_layers)
    chosen = min(race.left, key=lambda entry: entry.candidate.cost)
    tries = _lower(race, chosen, models, settings, judge)
    strength, texts = tries[-1]
    within = _fluent(texts, race.unsteered, settings, judge)
    return Tuned(
        kind=request_kind(models),
        settings=chosen.candidate.settings(strength),
        rows=tuple(_rows(race, chosen, tries[1:], scale, judge)),
        undecided=len(race.left) > 1,
        within_budget=within,
        reasons=tuple(_reasons(race, chosen, strength, settings, within=within)),
        seconds=race.seconds,
    )


def _lower(
    race: Race, chosen: Entry, models: Sequence[Any], settings: TuneSettings, judge: PerplexityJudge | None
) -> list[tuple[float, Texts]]:
    """Return strengths with their texts, each lower than the one before; one within the budget can only be the last."""
    tries = [(settings.strength, chosen.texts)]
    while True:
        strength, texts = tries[-1]
        while texts.rounds < race.unsteered.rounds:
            race.draw(texts, f"fluency at strength {strength:g}")
        lower = float(f"{settings.strength * LOWER ** len(tries):.3g}")
        late = race.seconds + texts.seconds > _OVERTIME * settings.minutes * 60
        if _fluent(texts, race.unsteered, settings, judge) or late or lower < _LEAST_STRENGTH:
            return tries
        tries.append((lower, Texts(chosen.candidate.config(models, lower))))


def _fluent(texts: Texts, unsteered: Texts, settings: TuneSettings, judge: PerplexityJudge | None) -> bool:
    """Return whether texts are within the budget."""
    row, base = (
        MethodRow(name, "", len(own.texts), own.costs(judge), {}) for name, own in (("", texts), (BASE, unsteered))
    )
    return settings.budget.holds(row, base)


def _rows(
    race: Race, chosen: Entry, lowered: Sequence[tuple[float, Texts]], scale: Scale, judge: PerplexityJudge | None
) -> list[TunedRow]:
    def row(name: str, texts: Texts, outcome: str, entry: Entry | None = None) -> TunedRow:
        against = None if entry is None else entry.against
        costs = texts.costs(judge)
        return TunedRow(name, len(texts.texts), scale.levels(texts), against, texts.final_kl, costs["repeats"],
                        costs["perplexity"], texts.seconds_per_token, outcome)  # fmt: skip

    rows, left = [row("unsteered", race.unsteered, "")], race.left
    for entry in race.entries:
        if entry.dropped:
            outcome = f"worse, round {entry.dropped}"
        else:
            parts = ["undecided"] * (len(left) > 1) + ["chosen"] * (entry is chosen)
            outcome = ", ".join(parts)
        rows.append(row(str(entry.candidate), entry.texts, outcome, entry))
    for number, (strength, texts) in enumerate(lowered, start=1):
        outcome = "strength lowered" + (", taken" if number == len(lowered) else "")
        rows.append(row(f"{chosen.candidate}, strength {strength:g}", texts, outcome))
    return rows


def _reasons(race: Race, chosen: Entry, strength: float, settings: TuneSettings, *, within: bool) -> list[str]:
    """Return sentences that explain the choice."""
    left, name = race.left, str(chosen.candidate)
    found = []
    if len(left) > 1:
        others = "; ".join(str(entry.candidate) for entry in left if entry is not chosen)
        found.append(f"Undecided: {name} cannot be told apart from {others}. It is taken because it costs least.")
    elif len(race.entries) > 1:
        found.append(f"{name} is the best; the intervals of all others lie below it.")
    else:
        found.append(f"{name} is the only candidate that was tried.")
    if race.out_of_time:
        skipped = f" Not tried: {'; '.join(map(str, race.untried))}." if race.untried else ""
        found.append(f"The comparison ended early: {settings.minutes:g} minutes do not allow more.{skipped}")
    budget = settings.budget
    limits = f"repeats at most {budget.repeats:.1%} above the unsteered texts'"
    if not all(math.isnan(own.costs()["perplexity"]) for own in (race.unsteered, chosen.texts)):
        limits += f", perplexity at most {budget.perplexity:g} times theirs"
    if not within:
        found.append(f"No strength down to {strength:g} keeps within the budget of fluency ({limits}).")
    elif strength < settings.strength:
        found.append(
            f"The strength is lowered from {settings.strength:g} to {strength:g} to keep within the budget of fluency "
            f"({limits})."
        )
    else:
        found.append(f"Its texts keep within the budget of fluency ({limits}).")
    return found
