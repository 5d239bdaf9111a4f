"""Best of r candidates: draw several texts, drop the repetitive ones, keep the likeliest (paper, section 3.4).

The attribute model, which steers through its gradient, here only judges: its `text_loss` measures how likely each
finished text is to have the attribute. Because many of the texts that it rates highest repeat themselves, texts with a
low mean of Dist-1, Dist-2 and Dist-3 are left out first.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pplm.batching import in_batches
from pplm.checks import check_type, check_whole
from pplm.config import MIN_DISTINCT
from pplm.errors import InputError
from pplm.evaluation.counts import mean_dist
from pplm.generated_text import Generation, without_end
from pplm.interface import WeightedAttribute, WholeText
from pplm.products import fast_products
from pplm.text.encoding import mask_arguments, pad_right
from pplm.text.prompts import Prompt

_log = logging.getLogger(__name__)

_TEXTS_AT_ONCE = 8
"""Texts per forward pass: the logits of all their positions are kept, which take much memory in a large vocabulary."""


@dataclass(frozen=True)
class Rerank:
    """Keep the best of several candidates for every sample.

    Attributes
    ----------
    candidates
        Texts drawn for each one kept (>= 1; 1 keeps the text of plain generation).
    min_distinct
        A candidate whose completion has a mean of Dist-1, Dist-2 and Dist-3 below this counts as repetitive and is
        excluded (0 to 1; 0 excludes none). If all candidates of a sample are excluded, the likeliest is kept, with a
        warning.
        The default excludes about one in six unsteered texts of 60 tokens of the embedded model; lower it for long
        texts, which repeat more of their words.

    """

    candidates: int = 10
    min_distinct: float = MIN_DISTINCT

    def __post_init__(self) -> None:
        """Check both fields against their ranges."""
        object.__setattr__(self, "candidates", check_whole("candidates", self.candidates, 1))
        object.__setattr__(self, "min_distinct", check_type("min_distinct", self.min_distinct, float))
        if not 0 <= self.min_distinct <= 1:
            raise InputError(f"min_distinct must be between 0 and 1; got {self.min_distinct}")

    def best(self, completions: Sequence[str], scores: Sequence[float]) -> Choice:
        """Choose among candidates by their scores (higher is better); the first of equal ones."""
        kept = [i for i, text in enumerate(completions) if mean_distinct(text) >= self.min_distinct]
        among = kept or range(len(completions))
        return Choice(max(among, key=lambda i: scores[i]), all_repetitive=not kept)


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
    scores = score_texts(model, attributes, [prompt.ids for prompt in prompts], completions, in_content=counted)
    kept, repetitive = [], 0
    for start in range(0, len(texts), rerank.candidates):
        own = slice(start, start + rerank.candidates)
        choice = rerank.best([text.completion for text in texts[own]], scores[own])
        repetitive += choice.all_repetitive
        kept.append(replace(texts[start + choice.index], score=scores[start + choice.index]))
    if repetitive:
        _log.warning(
            "%d of %d texts repeat themselves, and so did all their candidates (min_distinct %g); the likeliest was "
            "kept; lower step_size, gm_scale or min_distinct, or draw more candidates",
            repetitive,
            len(kept),
            rerank.min_distinct,
        )
    return kept


def score_texts(
    model: Any,
    attributes: Sequence[WeightedAttribute],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    in_content: Sequence[Sequence[bool] | None] | None = None,
) -> list[float]:
    """Return how likely each whole text is to have the attributes, in nats; higher is better.

    Parameters
    ----------
    model
        The language model, which reads every text once, unsteered.
    attributes
        Attribute models bound to it (`bind_attributes`). The score is the weighted sum of their -`text_loss`.
    prompts, completions
        Token ids of N texts, the beginning-of-text token with the prompts.
    in_content
        Which of each prompt's tokens count in the mean hidden state (`Prompt`); None for all of them.

    """
    return score_texts_by(model, [attributes], prompts, completions, in_content=in_content)[0]


def score_texts_by(
    model: Any,
    mixtures: Sequence[Sequence[WeightedAttribute]],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    in_content: Sequence[Sequence[bool] | None] | None = None,
) -> list[list[float]]:
    """Return the scores of `score_texts` for each of several mixtures of attributes, reading the texts once.

    Where memory runs out, fewer texts are read at once; one that does not fit alone scores -inf, with a warning.
    """

    def run(batch: Sequence[tuple[Sequence[int], Sequence[int], Sequence[bool] | None]]) -> list[tuple[float, ...]]:
        text = _read(model, *zip(*batch, strict=True))
        totals = [text.logits.new_zeros(text.logits.shape[0]) for _ in mixtures]
        for number, attributes in enumerate(mixtures):
            for attribute in attributes:
                if attribute.weight:  # 0 times an infinite loss would be NaN
                    totals[number] = totals[number] - attribute.weight * attribute.text_loss(text)
        return list(zip(*(total.tolist() for total in totals), strict=True))

    rows = list(zip(prompts, completions, in_content or [None] * len(prompts), strict=True))
    found = in_batches(rows, _TEXTS_AT_ONCE, run, without=(-math.inf,) * len(mixtures))
    return [list(own) for own in zip(*found, strict=True)]


@torch.no_grad()
def _read(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    in_content: Sequence[Sequence[bool] | None],
) -> WholeText:
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    input_ids, mask = pad_right(rows, model.device)
    arguments = {"use_cache": False, "output_hidden_states": True, "return_dict": True, **mask_arguments(mask)}
    with fast_products(model):
        outputs = model(input_ids=input_ids, **arguments)
    prompt_lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    content_mask = None
    if any(own is not None for own in in_content):
        content_mask = mask.clone()
        for row, own in zip(content_mask, in_content, strict=True):
            if own is not None:
                row[: len(own)] = torch.tensor(own, device=model.device)
    return WholeText(input_ids, mask, prompt_lengths, outputs.logits.float(), outputs.hidden_states[-1], content_mask)
