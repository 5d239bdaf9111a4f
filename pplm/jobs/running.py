"""Work through a job's windows, batch by batch, in one process or in several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pplm.errors import InputError
from pplm.generated_text import Generation
from pplm.generation import generate_unjudged
from pplm.jobs.ledger import Ledger, Outcome
from pplm.jobs.levels import MeanLevels
from pplm.jobs.requests import FAILED, Failed, Job, Key, Made, Request
from pplm.jobs.windows import Batch, plan, windows
from pplm.models.processes import Processes


def run_job(
    job: Job, requests: Iterable[Request], ledger: Ledger[Any], processes: Processes
) -> Iterator[list[Request]]:
    """Make what the ledger lacks, and yield the current window after each batch (of several processes, one each).

    Raises
    ------
    InputError
        If the rest of the input cannot be read, or the ledger cannot be written.

    """
    levels = MeanLevels()
    for window in windows(requests, job):
        if all(ledger.is_given(request) for request in window):
            continue
        batches, failed = plan(window, job)
        new = [item for item in failed if not ledger.is_given(item.request)]
        ledger.keep([((item.request.number, FAILED), ledger.form(item)) for item in new])
        yield window
        todo = [batch for batch in batches if not all(map(ledger.has, batch.keys))]
        for start in range(0, len(todo), processes.count):
            turn = todo[start : start + processes.count]
            mine = _run(turn[processes.index], job, levels) if processes.index < len(turn) else []
            made = processes.join([(key, ledger.form(outcome)) for key, outcome in mine if not ledger.has(key)])
            ledger.keep(made)
            yield window
    levels.warn()


def _run(batch: Batch, job: Job, levels: MeanLevels) -> list[tuple[Key, Outcome]]:
    """Generate a batch; if it is refused, generate each prompt alone, so that only those at fault fail."""
    way, requests = batch.way, batch.requests
    try:
        texts = _generate(batch, job, levels)
    except InputError as error:
        if len(requests) == 1:
            return [((requests[0].number, FAILED), Failed(requests[0], str(error)))]
        alone = [Batch((request,), way, batch.first) for request in requests]
        return [item for one in alone for item in _run(one, job, levels)]
    owners = [request for request in requests for _ in range(way.samples)]
    return [(key, Made(request, text, way)) for key, request, text in zip(batch.keys, owners, texts, strict=True)]


def _generate(batch: Batch, job: Job, levels: MeanLevels) -> list[Generation]:
    way, requests = batch.way, batch.requests
    given = [job.seed if request.seed is None else request.seed for request in requests]
    seeds = [seed for seed in given if seed is not None]
    texts, bound, steering = generate_unjudged(
        job.model,
        job.tokenizer,
        [request.prompt for request in requests],
        attributes=way.attributes,
        steering=way.steering,
        num_samples=way.samples,
        rerank=way.rerank,
        seed=seeds if len(seeds) == len(given) else None,
        prompt_indices=[request.number for request in requests],
        max_batch_size=job.batch_size,
        **job.arguments,
    )
    levels.add(bound, steering, texts)
    return texts
