"""Which texts of a job are generated together: this depends only on its prompts and settings.

It does not depend on the number of processes, nor on where an earlier run stopped, so that neither changes a text, not
even by rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pplm.errors import InputError
from pplm.jobs.requests import Failed, Job, Key, Request, Way
from pplm.text.limits import check_length
from pplm.text.prompts import read_prompt

BATCHES = 16
"""Batches per window: enough to put prompts of similar length together, few enough to keep in memory."""


@dataclass(frozen=True)
class Batch:
    """Prompts whose texts of one way are generated at once; `first` is that way's first line of each prompt."""

    requests: tuple[Request, ...]
    way: Way
    first: int

    @property
    def keys(self) -> list[Key]:
        """The keys of its texts, prompt by prompt."""
        positions = range(self.first, self.first + self.way.samples)
        return [(request.number, position) for request in self.requests for position in positions]


def windows(requests: Iterable[Request], job: Job) -> Iterator[list[Request]]:
    """Cut a job's prompts into windows; each is read only when it is asked for."""
    size = BATCHES * _prompts_at_once(job, max(job.drawn))
    requests = iter(requests)
    while window := list(islice(requests, min(size, sys.maxsize))):
        yield window


def plan(window: Sequence[Request], job: Job) -> tuple[list[Batch], list[Failed]]:
    """Return the batches of a window, and the prompts that cannot be generated.

    Prompts of similar length share a batch. Batches come in the order of their texts among a prompt's lines (all
    unsteered ones before the steered), then in that of their earliest prompt.
    """
    failed, lengths = [], {}
    ways: dict[Any, Sequence[Way] | InputError] = {}
    for request in window:
        try:
            lengths[request.number] = _length(request, job, ways)
        except InputError as error:
            failed.append(Failed(request, str(error)))
    groups: dict[tuple[int, Any, bool], list[Request]] = {}
    for request in window:
        if request.number in lengths:
            for index in range(len(ways[request.own])):  # type: ignore[arg-type]
                groups.setdefault((index, request.own, isinstance(request.prompt, str)), []).append(request)
    batches = []
    for (index, own, _), group in groups.items():
        found: Sequence[Way] = ways[own]  # type: ignore[assignment]
        each = _prompts_at_once(job, found[index].drawn)
        group.sort(key=lambda request: lengths[request.number])
        first = sum(way.samples for way in found[:index])
        parts = [group[start : start + each] for start in range(0, len(group), each)]
        batches += [Batch(tuple(part), found[index], first) for part in parts]
    batches.sort(key=lambda batch: (batch.first, min(request.number for request in batch.requests)))
    return batches, failed


def _prompts_at_once(job: Job, texts: int) -> int:
    return max(1, job.batch_size // texts)


def _length(request: Request, job: Job, ways: dict[Any, Sequence[Way] | InputError]) -> int:
    """Return a prompt's length in tokens; raise an `InputError` if it cannot be used."""
    if request.error:
        raise InputError(request.error)
    if request.own not in ways:
        try:
            ways[request.own] = job.ways(request.own)
        except InputError as error:
            ways[request.own] = error
    found = ways[request.own]
    if isinstance(found, InputError):
        raise found
    if not isinstance(request.prompt, str | list | tuple):
        kind = type(request.prompt).__name__
        raise InputError(f"prompt must be a text or a list of messages; got {kind}; write it as text")
    length = len(read_prompt(job.model, job.tokenizer, request.prompt, bos=job.arguments.get("bos", True)).ids)
    new_tokens = job.arguments.get("max_new_tokens")
    if isinstance(new_tokens, int):
        check_length(job.model, length, length + new_tokens, max(way.steering.horizon_length for way in found))
    return length
