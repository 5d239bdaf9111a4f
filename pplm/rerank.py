"""Best of r candidates: draw several texts, drop the repetitive ones, keep the best (paper, section 3.4).

The attribute model, which steers through its gradient, here only judges: its `text_loss` measures how likely each
finished text is to have the attribute. Because many of the texts that it rates highest repeat themselves, texts with a
low mean of Dist-1, Dist-2 and Dist-3 are left out first.

Beyond the paper: several attribute models have an equal say, and so can the language model, which prefers fluent texts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Any

from pplm.checks import check_range, check_type, check_whole
from pplm.config import MIN_DISTINCT
from pplm.errors import InputError
from pplm.evaluation.counts import mean_dist
from pplm.generated_text import Generation, without_end
from pplm.interface import WeightedAttribute
from pplm.text.prompts import Prompt
from pplm.text_scores import TextScore, score_texts

_log = logging.getLogger(__name__)

_LEAST_SPREAD = 0.01
"""In nats."""


@dataclass(frozen=True)
class Rerank:
    """Keep the best of several candidates for every sample.

    Attributes
    ----------
    candidates
        Texts drawn for each one kept (>= 1; 1 keeps the text of plain generation).
    min_distinct
        A candidate whose completion has a mean of Dist-1, Dist-2 and Dist-3 below this counts as repetitive and is
        excluded (0 to 1; 0 excludes none). If all candidates of a sample are excluded, the best is kept, with a
        warning.
        The default excludes about one in six unsteered texts of 60 tokens of the embedded model; lower it for long
        texts, which repeat more of their words.
    fluency
        How much it counts that the unsteered language model finds a candidate probable, compared with an attribute
        model of weight 1 (>= 0; 0, the paper's way, leaves it out). Without it, the candidates that are rated highest
        are often the oddest too.

    """

    candidates: int = 10
    min_distinct: float = MIN_DISTINCT
    fluency: float = 0.0

    def __post_init__(self) -> None:
        """Check all fields against their ranges."""
        object.__setattr__(self, "candidates", check_whole("candidates", self.candidates, 1))
        for name in ("min_distinct", "fluency"):
            object.__setattr__(self, name, check_type(name, getattr(self, name), float))
        if not 0 <= self.min_distinct <= 1:
            raise InputError(f"min_distinct must be between 0 and 1; got {self.min_distinct}")
        check_range("fluency", self.fluency, 0)
        if self.fluency and self.candidates == 1:
            raise InputError(
                f"fluency {self.fluency:g} chooses among candidates; candidates must then be at least 2; got 1"
            )

    def best(self, completions: Sequence[str], scores: Sequence[TextScore], weights: Sequence[float]) -> Choice:
        """Choose among the candidates of one sample.

        Each attribute model's scores, and the candidates' fluency, are first put in units of their spread among the
        candidates: otherwise the model whose scores differ most would decide alone. A spread below 0.01 nats counts as
        0.01. Then they are weighed and added.

        Parameters
        ----------
        completions, scores
            Of each candidate.
        weights
            One for each of A attribute models.

        Returns
        -------
        Choice
            Of equally good candidates, the one with the highest weighted sum in nats; then the first.

        """
        kept = [i for i, text in enumerate(completions) if mean_distinct(text) >= self.min_distinct]
        among = kept or list(range(len(completions)))
        columns = [*zip(*(scores[i].attributes for i in among), strict=True), [scores[i].fluency for i in among]]
        whole = sum(weights) + self.fluency or 1.0
        shares = [weight / whole for weight in (*weights, self.fluency)]
        weighed = [
            [share * value for value in in_spreads(column)]
            for column, share in zip(columns, shares, strict=True)
            if share  # 0 times infinity would be NaN
        ]
        places = [sum(row) for row in zip(*weighed, strict=True)] or [0.0] * len(among)
        nats = [scores[i].total(shares[:-1]) for i in among]
        # Rounded, because the same text may score a little differently in a batch of another size.
        first = max(range(len(among)), key=lambda place: (round(places[place], 3), round(nats[place], 4)))
        return Choice(among[first], all_repetitive=not kept)


def in_spreads(values: Sequence[float]) -> list[float]:
    """Return how far each value is above the mean, in standard deviations.

    Values that are not finite are left out of both and become -inf; if none is finite, all become 0. A spread below
    0.01 counts as 0.01: what differs less is no reason to prefer a text.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [0.0] * len(values)
    mean, spread = fmean(finite), max(pstdev(finite), _LEAST_SPREAD)
    return [(value - mean) / spread if math.isfinite(value) else -math.inf for value in values]


@dataclass(frozen=True)
class Choice:
    """Which candidate was kept, and whether all of them were repetitive."""

    index: int
    all_repetitive: bool


def mean_distinct(completion: str) -> float:
    """Return the mean of Dist-1, Dist-2 and Dist-3 of one text; 0 for an empty one, so that it is excluded."""
    value = mean_dist([completion])
    return 0.0 if math.isnan(value) else value


def check_rerank(rerank: Any) -> None:
    """Refuse what is neither a `Rerank` nor None.

    Raises
    ------
    InputError
        With the value.

    """
    if not isinstance(rerank, Rerank | None):
        raise InputError(f"rerank must be a Rerank; got {rerank!r}; write rerank=Rerank(candidates=10)")


def check_rankable(attributes: Sequence[WeightedAttribute]) -> None:
    """Refuse to rank without attribute models, or by one that cannot judge whole texts.

    Raises
    ------
    InputError
        With the name of the attribute model.

    """
    if not attributes:
        raise InputError("rerank needs an attribute model to rank by; name one or leave rerank out")
    for attribute in attributes:
        if not attribute.reads_texts:
            raise InputError(
                f"attribute model {attribute.name!r} has no method text_loss(text), so its texts cannot be ranked; "
                "add one, or leave rerank out"
            )


def keep_best(
    model: Any,
    tokenizer: Any,
    attributes: Sequence[WeightedAttribute],
    texts: Sequence[Generation],
    prompts: Sequence[Prompt],
    rerank: Rerank,
) -> list[Generation]:
    """Score all candidates, given sample by sample, and keep one for each sample."""
    completions = [
        without_end(text.token_ids, tokenizer, prompt.ends) for text, prompt in zip(texts, prompts, strict=True)
    ]
    counted = [prompt.in_content for prompt in prompts]
    ids = [prompt.ids for prompt in prompts]
    (scores,) = score_texts(model, [attributes], ids, completions, in_content=counted, fluency=rerank.fluency > 0)
    weights = [attribute.weight for attribute in attributes]
    kept, repetitive = [], 0
    for start in range(0, len(texts), rerank.candidates):
        own = slice(start, start + rerank.candidates)
        choice = rerank.best([text.completion for text in texts[own]], scores[own], weights)
        repetitive += choice.all_repetitive
        index = start + choice.index
        kept.append(replace(texts[index], score=scores[index].total(weights)))
    if repetitive:
        _log.warning(
            "%d of %d texts repeat themselves, and so did all their candidates (min_distinct %g); the best was kept; "
            "lower step_size, gm_scale or min_distinct, or draw more candidates",
            repetitive,
            len(kept),
            rerank.min_distinct,
        )
    return kept
