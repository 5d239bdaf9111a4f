"""How far steering in a lower number format strays from steering in float32.

The texts are written in float32. Each other format writes its own texts from the same random numbers, which shows how
long they stay the same; then it is forced to write the float32 texts, token by token, so that its losses remain
comparable to the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from statistics import fmean, median
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from pplm.attached import steering_presets
from pplm.benchmark.run import in_dtype
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.generated_text import Generation
from pplm.generation import generate
from pplm.interface import AttributeModel, bind_attributes, weigh_attributes
from pplm.models.loading import Dtype

Span = Literal["first token", "same text", "all tokens"]
"""Which tokens of each text are compared: the first; those up to the first that the other format writes differently,
which is included; or all of them, the other format being forced to write float32's."""


@dataclass(frozen=True)
class Deviation:
    """The differences of one loss between two number formats, over texts, tokens and iterations.

    Attributes
    ----------
    reference
        Mean in float32.
    mean, largest
        Mean and largest absolute difference.

    """

    reference: float
    mean: float
    largest: float


@dataclass(frozen=True)
class Agreement:
    """One number format compared with float32 over one span of the texts.

    Attributes
    ----------
    dtype, span
        What was compared.
    tokens
        Tokens in the span, of all texts.
    attribute_loss, kl
        Deviations of what `Generation` records under these names, in nats.
    same_tokens
        For each text, how many tokens this format writes before its text first differs from float32's.

    """

    dtype: str
    span: Span
    tokens: int
    attribute_loss: Deviation
    kl: Deviation
    same_tokens: tuple[int, ...]

    @property
    def median_same_tokens(self) -> float:
        """Median of `same_tokens`."""
        return median(self.same_tokens)


def dtype_agreement(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]],
    *,
    dtypes: Sequence[Dtype] = ("bfloat16", "float16"),
    steering: SteeringConfig | None = None,
    num_samples: int = 1,
    max_new_tokens: int = 30,
    top_k: int = 10,
    seed: int = 0,
) -> list[Agreement]:
    """Compare steering in lower number formats with float32, on the same texts.

    Parameters
    ----------
    model, tokenizer
        As `load_model` returns them, in float32.
    prompts
        One or more texts.
    attributes
        Attribute models, or (model, weight) pairs; at least one.
    dtypes
        The formats to be compared with float32.
    steering
        Settings; None takes the model's own preset for these attributes, else the dial at its usual strength.
    num_samples, max_new_tokens, top_k, seed
        As in `generate`; every text has all of its `max_new_tokens`.

    Returns
    -------
    list of Agreement
        Three for each format, one per span.

    Raises
    ------
    InputError
        If the model is not in float32, there is nothing to compare, or steering changes nothing.

    """
    _check_formats(model, dtypes)
    attributes = [(a.model, a.weight) for a in bind_attributes(weigh_attributes(attributes), model)]
    if steering is None:
        steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model))
    if not attributes or not steering.moves:
        raise InputError("without steering there are no losses to compare; give attribute models and settings that act")
    write = partial(
        generate,
        tokenizer=tokenizer,
        prompts=prompts,
        attributes=attributes,
        steering=steering,
        num_samples=num_samples,
        seed=seed,
        do_sample=True,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        min_new_tokens=max_new_tokens,
    )
    reference = write(model)
    tokens = torch.tensor([text.token_ids for text in reference], device=model.device)
    rows = []
    for dtype in dtypes:
        lower = in_dtype(model, dtype)
        free = write(lower)
        forced = write(lower, logits_processor=LogitsProcessorList([_Write(tokens)]))
        same = tuple(_same_tokens(*pair) for pair in zip(reference, free, strict=True))
        rows += [_agreement(dtype, span, reference, forced, same) for span in get_args(Span)]
    return rows


class _Write(LogitsProcessor):
    """Excludes every token but one: the next of the given texts (B, N)."""

    def __init__(self, tokens: Tensor) -> None:
        self._tokens, self._prompt_length = tokens, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._prompt_length = self._prompt_length or input_ids.shape[1]
        wanted = self._tokens[:, input_ids.shape[1] - self._prompt_length]
        return torch.full_like(scores, -torch.inf).scatter(1, wanted[:, None], 0.0)


def _check_formats(model: Any, dtypes: Sequence[str]) -> None:
    if model.dtype != torch.float32:
        raise InputError(f"model must be in float32, which the others are compared with; got {model.dtype}")
    known = [name for name in get_args(Dtype) if name != "float32"]
    if not dtypes or any(dtype not in known for dtype in dtypes):
        raise InputError(f"dtypes must be of {', '.join(known)}, at least one; got {', '.join(dtypes) or 'none'}")


def _same_tokens(reference: Generation, other: Generation) -> int:
    pairs = zip(reference.token_ids, other.token_ids, strict=True)
    return next((n for n, (one, two) in enumerate(pairs) if one != two), len(reference.token_ids))


def _agreement(
    dtype: str, span: Span, reference: Sequence[Generation], other: Sequence[Generation], same: tuple[int, ...]
) -> Agreement:
    lengths = [_length(span, text, count) for text, count in zip(reference, same, strict=True)]
    return Agreement(
        dtype,
        span,
        sum(lengths),
        _deviation([text.attribute_loss for text in reference], [text.attribute_loss for text in other], lengths),
        _deviation([text.kl for text in reference], [text.kl for text in other], lengths),
        same,
    )


def _length(span: Span, text: Generation, same: int) -> int:
    if span == "first token":
        return 1
    # The losses before a token that differs are still those of the same text, so that token counts as well.
    return min(same + 1, len(text.token_ids)) if span == "same text" else len(text.token_ids)


def _deviation(
    reference: Sequence[list[list[float]]], other: Sequence[list[list[float]]], lengths: Sequence[int]
) -> Deviation:
    """Compare losses, given by text, token and iteration, over the first `lengths` tokens of the texts."""
    ours, theirs = (
        [loss for text, length in zip(texts, lengths, strict=True) for loss in chain.from_iterable(text[:length])]
        for texts in (reference, other)
    )
    if not ours:
        raise InputError("no token of the texts was steered; take longer prompts or other attribute models")
    differences = [abs(one - two) for one, two in zip(ours, theirs, strict=True)]
    return Deviation(fmean(ours), fmean(differences), max(differences))
