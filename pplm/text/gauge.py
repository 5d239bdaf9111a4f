"""Measures the numbers in a token's details, for all texts of a batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.interface import SteeringStep, WeightedAttribute
from pplm.text.aims import level_of, of_token
from pplm.text.details import TokenLevel
from pplm.text.dial import Fused
from pplm.text.forward import LastToken

_LIKELIEST = 5
_ROUNDING = 1e-3
"""A probability may exceed 1 by this much; if exp(-loss) exceeds it by more, the loss is not -log of a probability."""


@dataclass(frozen=True)
class Outcome:
    """What the next tokens are drawn from, and how it came about, for the B texts that go on.

    Attributes
    ----------
    rows
        (B,): which texts of the whole batch these are.
    input_ids, attention_mask
        (B, T): the texts so far; the mask is bool.
    unsteered
        The unsteered reading of the last token.
    fused
        What tokens are drawn from.
    step_length
        (B,): norm of the movement that the steps made, NaN where a text was not steered; None if no text was.
    pool
        Returns the mean hidden state (B, D) of the texts as they stand or, given logits (B, V), of the texts and one
        more position, the expected next token under these logits.

    """

    rows: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    unsteered: LastToken
    fused: Fused
    step_length: Tensor | None
    pool: Callable[[Tensor | None], Tensor]

    def step(self, logits: Tensor | None = None) -> SteeringStep:
        """Return what attribute models read of the texts as they stand, or with the next token's logits (B, V)."""
        own = self.unsteered.logits if logits is None else logits
        return SteeringStep(self.input_ids, self.attention_mask, own, lambda: self.pool(logits))


@dataclass(frozen=True)
class Measures:
    """The numbers of one token of one text: see `TokenDetails`.

    Attributes
    ----------
    so_far
        By attribute, what the level of the whole text is made of: for a bag the final level of this token, for a head
        the level of the text before this token.
    unsteered, final
        (token id, probability) of the likeliest tokens.

    """

    kl: float
    gm_scale: float
    step_length: float | None
    levels: dict[str, TokenLevel | None]
    so_far: dict[str, float]
    unsteered: list[tuple[int, float]]
    final: list[tuple[int, float]]


class Gauge:
    """Measures the levels of some attributes, bound to the language model, and the other numbers of `Measures`."""

    def __init__(self, attributes: Sequence[WeightedAttribute]) -> None:
        self.attributes = attributes

    @torch.no_grad()
    def measure(self, outcome: Outcome) -> dict[int, Measures]:
        """Return the measures of each text that goes on, by its row in the whole batch."""
        unsteered, now = outcome.step(outcome.unsteered.logits), outcome.step()
        same = outcome.fused.logits is outcome.unsteered.logits  # nothing steers: a head looks ahead once
        final = unsteered if same else outcome.step(outcome.fused.logits)
        steps = outcome.step_length
        columns = [
            outcome.fused.kl,
            outcome.fused.gm_scale,
            torch.full_like(outcome.fused.kl, torch.nan) if steps is None else steps,
        ]
        for attribute in self.attributes:
            pair = [level_of(attribute, step) for step in (unsteered, final)]
            columns += [*pair, pair[1] if of_token(attribute) else level_of(attribute, now)]
        numbers = torch.stack([column.float() for column in columns], dim=1).tolist()
        likely = [_likeliest(step.logits) for step in (unsteered, final)]
        rows = zip(outcome.rows.tolist(), numbers, *likely, strict=True)
        return {row: self._measures(own, *tops) for row, own, *tops in rows}

    def _measures(
        self, numbers: list[float], unsteered: list[tuple[int, float]], final: list[tuple[int, float]]
    ) -> Measures:
        kl, gm_scale, step_length, *rest = numbers
        levels: dict[str, TokenLevel | None] = {}
        so_far: dict[str, float] = {}
        for number, attribute in enumerate(self.attributes):
            before, after, text = rest[3 * number : 3 * number + 3]
            is_level = max(before, after) <= 1 + _ROUNDING  # not so where one is NaN
            levels[attribute.name] = TokenLevel(before, after) if is_level else None
            so_far[attribute.name] = text if is_level else math.nan
        length = None if math.isnan(step_length) else step_length
        return Measures(kl, gm_scale, length, levels, so_far, unsteered, final)


def text_level(attribute: WeightedAttribute, tokens: Sequence[Measures]) -> float | None:
    """Return the level of a text from the measures of its tokens: see `TextDetails.levels`."""
    levels = [token.so_far[attribute.name] for token in tokens]
    if not levels or any(map(math.isnan, levels)):
        return None
    return math.fsum(levels) / len(levels) if of_token(attribute) else levels[-1]


def _likeliest(logits: Tensor) -> list[list[tuple[int, float]]]:
    """Return the likeliest tokens and their probabilities, for each row of logits (B, V)."""
    values, ids = logits.topk(min(_LIKELIEST, logits.shape[-1]))
    probabilities = (values - logits.logsumexp(-1, keepdim=True)).exp()
    return [list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), probabilities.tolist(), strict=True)]
