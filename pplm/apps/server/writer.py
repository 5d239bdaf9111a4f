"""Writes the texts of several requests at once, each as it would be alone.

Every text counts as one of prompt number 0: its random numbers depend on its own seed and sample alone, whatever else
is in its batch. Each has its own length, and ends earlier if its client has left or its time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from pplm.apps.server.errors import refused
from pplm.apps.server.jobs import Job, Row, Way
from pplm.apps.server.metrics import Metrics
from pplm.apps.server.notices import listening
from pplm.batching import in_batches
from pplm.errors import InputError
from pplm.interface import WeightedAttribute
from pplm.text.arguments import for_transformers, pad_id_of
from pplm.text.decoding import steered_decoding
from pplm.text.details import NewToken
from pplm.text.limits import check_length
from pplm.text.onlooker import Onlooker, WatchedText
from pplm.text.prompts import pad_left
from pplm.text.steerable import check_window


class Writer:
    """Writes with one language model; used by one thread at a time."""

    def __init__(self, model: Any, tokenizer: Any, metrics: Metrics) -> None:
        self._model, self._tokenizer, self._metrics = model, tokenizer, metrics

    def fits(self, jobs: Sequence[Job]) -> bool:
        """Return whether requests of one way fit into the model's positions when they are padded to one width."""
        rows = [row for job in jobs for row in job.rows]
        longest = max(len(row.prompt.ids) for row in rows), max(row.max_tokens for row in rows)
        try:
            check_positions(self._model, *longest, jobs[0].way)
        except InputError:
            return False
        return True

    def write(self, jobs: Sequence[Job]) -> None:
        """Write the texts of requests of one way, and pass every token on to its request.

        Where something is wrong with one of them, such as a step too long for its prompt, each is written alone.
        """
        places = [(job, number) for job in jobs for number in range(len(job.rows))]

        def take(new: NewToken) -> bool:
            job, number = places[new.prompt_index]
            answer = job.rows[number].answer
            if job.left:
                return True
            known, grew = answer.tokens, answer.finish is None
            text = answer.add(new)
            if job.late:
                text += answer.cut()
            self._metrics.new_tokens.inc(answer.tokens - known)
            # Where a batch is written again, a text's time may be up at a token that it has already.
            if answer.tokens > known or (grew and answer.finish is not None):
                job.show(number, text, heard)
            return answer.has_ended(new)

        try:
            rows = [job.rows[number] for job, number in places]
            with listening() as heard:
                write_rows(self._model, self._tokenizer, rows, jobs[0].way, jobs[0].attributes, take)
        except InputError as error:
            for job in jobs if len(jobs) > 1 else ():
                self.write([job])
            if len(jobs) == 1:
                jobs[0].end(refused(str(error)))


def write_rows(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    way: Way,
    attributes: Sequence[WeightedAttribute],
    on_token: Callable[[NewToken], bool],
) -> None:
    """Write texts, each with its own prompt, random numbers and length.

    Parameters
    ----------
    model, tokenizer
        The language model.
    rows, way, attributes
        The texts, how they are made, and the bound attribute models that are named there.
    on_token
        Called with every new token, its `prompt_index` being the number of its row; returning True ends the text.
        Where memory runs out, rows are written again, from their first token.

    Raises
    ------
    InputError
        If something is wrong with one of them.

    """
    pad_id = pad_id_of(model, tokenizer)
    steered = bool(attributes) and way.steering.moves

    def run(numbers: Sequence[int]) -> list[None]:
        own = [rows[number] for number in numbers]
        prompts = [row.prompt for row in own]
        input_ids, attention_mask, content_mask = pad_left(prompts, pad_id)
        loop = steered_decoding(
            attributes,
            way.steering,
            seed=[row.seed for row in own],
            sample_ids=[(0, row.sample) for row in own],
            tokenizer=tokenizer,
            content_mask=content_mask,
        )
        texts = [
            WatchedText(tokenizer, row.prompt, (number, row.sample, 0), steered=steered)
            for number, row in zip(numbers, own, strict=True)
        ]
        lengths = _OwnLengths(input_ids.shape[1], [row.max_tokens for row in own])
        arguments = for_transformers(dict(way.arguments), model, pad_id, prompts[0].ends)
        model.generate(
            input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            max_new_tokens=max(row.max_tokens for row in own),
            stopping_criteria=StoppingCriteriaList([lengths]),
            custom_generate=replace(loop, onlooker=Onlooker(tokenizer, texts, on_token=on_token)),
            **arguments,
        )
        return [None] * len(own)

    in_batches(range(len(rows)), None, run)


def check_positions(model: Any, prompt_tokens: int, new_tokens: int, way: Way) -> None:
    """Refuse texts that do not fit the model.

    Raises
    ------
    InputError
        If they need more positions, or a longer window, than the model has.

    """
    check_length(model, prompt_tokens, prompt_tokens + new_tokens, way.steering.horizon_length)
    check_window(model, prompt_tokens + new_tokens)


class _OwnLengths(StoppingCriteria):
    """Ends each text at its own number of new tokens behind prompts that are padded to one width."""

    def __init__(self, width: int, lengths: Sequence[int]) -> None:
        self._stops = torch.tensor(lengths) + width

    def __call__(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return which texts are as long as they should be: (B,) bool."""
        return self._stops.to(input_ids.device) <= input_ids.shape[1]
