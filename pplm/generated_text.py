"""One generated text, and how a batch of decoded tokens is cut into texts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import Tensor

from pplm.errors import InputError
from pplm.notebook import plain_html, traced_html
from pplm.text.aims import named_levels
from pplm.text.decoding import SteeredOutput
from pplm.text.details import TextDetails
from pplm.text.onlooker import Onlooker
from pplm.text.pieces import completion_of
from pplm.text.prompts import Prompt
from pplm.text.trace import SteeringTrace

_NOT_RECORDED = ("trace", "details")
_TRACED = ("prompt", "prompt_index", "sample", "seed", "steered", "text", "completion")
"""The fields that a trace has as well, besides the details."""


@dataclass(frozen=True)
class Generation:
    """One generated text and what steering did to it.

    Attributes
    ----------
    prompt, completion, text
        What was given, what was added, and both together. For a conversation: its last message, the answer, and both
        with an empty line between.
    prompt_index, sample
        Which prompt of the call, and which of its samples; with `seed` they name the random stream.
    seed
        As passed to `generate`.
    token_ids
        Of the completion; its last is the end-of-text token if the text ended by itself.
    steered
        Whether attribute models could move this text.
    attribute_losses
        By attribute model, new token and reading: its own loss, unweighted, before each iteration's step and after
        the last one. The list of a token that was not steered is empty.
    attribute_loss
        The weighted sum of these over the attribute models.
    kl
        By new token and reading: KL(steered distribution || unsteered one), in nats. If nothing needs logits (heads
        alone, with `horizon_length` 0 and `kl_scale` 0), only the last reading has one.
    final_kl
        By new token: KL(final distribution || unsteered one), in nats. The token was drawn from the final one, which
        is taken after the geometric mean and before temperature and top-k.
    levels
        With the dial (a strength or a target): the level of each attribute in this text (`SteeringConfig.target`).
    candidate
        With `rerank`: which of the candidates was kept, counted from 0.
    score
        With `rerank`: how likely the whole text is to have the attributes: the weighted sum over the attribute models,
        in nats; higher is better. The choice also goes by fluency and by how far scores differ (`Rerank.best`).
    messages
        The conversation that was given, without the answer; None where the prompt was a text.
    trace
        These numbers as tensors, with the gradients' norms and cosines; its B is 1. It is not written to JSON lines.
    details
        With `trace`: numbers for every token, among them each attribute's level with and without steering and the
        likeliest tokens. Not written to JSON lines either.

    """

    prompt: str
    completion: str
    text: str
    prompt_index: int
    sample: int
    seed: int | None
    token_ids: list[int] = field(repr=False)
    steered: bool
    attribute_losses: dict[str, list[list[float]]] = field(repr=False)
    attribute_loss: list[list[float]] = field(repr=False)
    kl: list[list[float]] = field(repr=False)
    final_kl: list[float] = field(repr=False)
    levels: dict[str, float] = field(default_factory=dict)
    candidate: int = 0
    score: float | None = None
    messages: list[dict[str, Any]] | None = None
    trace: SteeringTrace | None = field(default=None, repr=False, compare=False)
    details: TextDetails | None = field(default=None, repr=False, compare=False)

    def record(self) -> dict[str, Any]:
        """Return all fields but the trace and the details, for JSON."""
        return {name: value for name, value in vars(self).items() if name not in _NOT_RECORDED}

    def traced(self) -> dict[str, Any]:
        """Return the text as it is in a trace (`trace_document`), for JSON.

        Raises
        ------
        InputError
            If it was not traced.

        """
        if self.details is None:
            raise InputError(
                f"text {self.sample} of prompt {self.prompt_index} has no details; generate it with trace=True"
            )
        return {**{name: getattr(self, name) for name in _TRACED}, **self.details.record()}

    def _repr_html_(self) -> str:
        """Return the text for a notebook, shaded by what steering did if it was traced."""
        if self.details is not None:
            return traced_html(self.traced(), self.details.levels)
        facts = [f"{name}: level {level:.2%}" for name, level in self.levels.items()]
        if self.steered and self.final_kl:
            mean = math.fsum(self.final_kl) / len(self.final_kl)
            facts.append(f"{mean:.3f} nats from unsteered, mean over tokens")
        return plain_html(vars(self), facts)

    @classmethod
    def recorded_fields(cls) -> frozenset[str]:
        """Return the names of the fields of a record."""
        return frozenset(field.name for field in fields(cls)) - {*_NOT_RECORDED}


def cut_texts(
    output: SteeredOutput,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    samples: Sequence[tuple[int, int, int]],
    seeds: Sequence[int] | None,
    steered: bool,
    onlooker: Onlooker | None = None,
) -> list[Generation]:
    """Cut a batch into texts, given each row's prompt, (prompt index, sample, candidate) and seed, if there is one.

    Completions and details come from the `onlooker`, if one watched the batch.
    """
    trace = output.steering
    prompt_length = output.sequences.shape[1] - trace.kl.shape[0]
    generations = []
    for row, prompt in enumerate(prompts):
        length = int(output.lengths[row])
        token_ids = output.sequences[row, prompt_length : prompt_length + length].tolist()
        own = _of_text(trace, row, length)
        # The onlooker's completion is what was shown: without an unfinished character where `on_token` ended a text.
        completion = completion_of(tokenizer, prompt, token_ids) if onlooker is None else onlooker.completion(row)
        generations.append(
            Generation(
                prompt=prompt.shown,
                completion=completion,
                text=prompt.shown + prompt.joint + completion,
                prompt_index=samples[row][0],
                sample=samples[row][1],
                seed=None if seeds is None else seeds[row],
                token_ids=token_ids,
                steered=steered,
                attribute_losses={
                    name: _by_token(own.attribute_losses[:, :, number, 0]) for number, name in enumerate(own.names)
                },
                attribute_loss=_by_token(own.attribute_loss[:, :, 0]),
                kl=_by_token(own.kl[:, :, 0]),
                final_kl=own.final_kl[:, 0].tolist(),
                levels=_levels(own),
                candidate=samples[row][2],
                messages=prompt.messages,
                trace=own,
                details=None if onlooker is None else onlooker.details(row),
            )
        )
    return generations


def _of_text(trace: SteeringTrace, row: int, length: int) -> SteeringTrace:
    """Return the record of one sample's first `length` new tokens, with B = 1."""
    tensors: dict[str, Any] = {name: value for name, value in vars(trace).items() if isinstance(value, Tensor)}
    # Cloned: a view would keep the whole batch's record in memory, and send it along between processes.
    return replace(trace, **{name: value[:length, ..., row : row + 1].clone() for name, value in tensors.items()})


def _levels(trace: SteeringTrace) -> dict[str, float]:
    """Return the levels by attribute model at the end of a text; the trace's B is 1."""
    return named_levels(trace.names, trace.levels[-1, :, 0].tolist())


def _by_token(values: Tensor) -> list[list[float]]:
    """Turn (N, I) into a list per token, empty for a token that was not steered (NaN)."""
    return [[value for value in token if not math.isnan(value)] for token in values.tolist()]


def without_end(token_ids: Sequence[int], tokenizer: Any, ends: Collection[int] = ()) -> list[int]:
    """Return a completion's ids without the token that ended it, if that is a special one or one of `ends`."""
    ids = list(token_ids)
    return ids[:-1] if ids and ids[-1] in {*tokenizer.all_special_ids, *ends} else ids
