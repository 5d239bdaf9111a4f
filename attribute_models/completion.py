"""The language model's probability that the beginning of a word is completed into the word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attribute_models.entries import Entry
from pplm.errors import InputError, broken_model
from pplm.files.progress import OnProgress
from pplm.products import fast_products
from pplm.text.encoding import bos_token_id

_ROWS = 32
"""Sequences per forward pass: keeps the logits of a large vocabulary small."""


def start_of_text(model: Any) -> list[int]:
    """Return the model's beginning-of-text token as a list; an empty one if its vocabulary has none."""
    start = bos_token_id(model)
    return [] if start is None else [start]


def next_logits(model: Any, input_ids: Tensor) -> Tensor:
    """Return the float32 logits (B, T, V) after each position of token ids (B, T).

    Raises
    ------
    InputError
        If the model computes NaN or infinity.

    """
    with fast_products(model):
        logits = model(input_ids=input_ids).logits.float()
    if not logits.amax(-1).isfinite().all():
        raise broken_model("its logits")
    return logits


def check_fits(model: Any, entries: Sequence[Entry]) -> None:
    """Refuse words and phrases that are longer than the model's context.

    Raises
    ------
    InputError
        Naming the longest.

    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(entries, key=lambda entry: len(entry.token_ids), default=None)
    if positions is None or longest is None:
        return
    needed = len(start_of_text(model)) + len(longest.token_ids)
    if needed > positions:
        word = longest.word if len(longest.word) <= 60 else longest.word[:60] + "..."
        raise InputError(f"{word!r} takes {needed} positions, the model has {positions}; shorten it or leave it out")


@torch.no_grad()
def completion_probabilities(
    model: Any, sequences: Sequence[Sequence[int]], on_progress: OnProgress | None = None
) -> tuple[tuple[float, ...], ...]:
    """Return, for each token sequence, the probability of the rest after its first 1, 2, ... n - 1 tokens.

    The probabilities are the model's own after nothing but its beginning-of-text token: an average over whatever a
    text may be about, which is what weighing a beginning needs. Thousands of sequences take a while, so `on_progress`
    is called with the number of sequences read and the number to read.
    """
    prefix = start_of_text(model)
    results: list[tuple[float, ...]] = [() for _ in sequences]
    long = sorted((n for n, sequence in enumerate(sequences) if len(sequence) > 1), key=lambda n: len(sequences[n]))
    for first in range(0, len(long), _ROWS):
        batch = long[first : first + _ROWS]
        width = len(sequences[batch[-1]])  # the longest; sorted by length, rows need little padding
        # Padding on the right cannot influence the positions before it.
        rows = [[*prefix, *sequences[number], *[0] * (width - len(sequences[number]))] for number in batch]
        ids = torch.tensor(rows, device=model.device)
        logits = next_logits(model, ids[:, :-1])[:, len(prefix) :]
        # (rows, width - 1) log-probabilities of the sequences' own tokens, without a full log_softmax
        steps = logits.gather(-1, ids[:, len(prefix) + 1 :, None]).squeeze(-1) - logits.logsumexp(-1)
        for row, number in enumerate(batch):
            own = steps[row, : len(sequences[number]) - 1]
            results[number] = tuple(own.flip(0).cumsum(0).flip(0).exp().tolist())
        if on_progress is not None:
            on_progress(first + len(batch), len(long))
    return tuple(results)
