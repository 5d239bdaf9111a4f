"""The progress bar of `pplm generate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pplm.files.progress import progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from pplm.jobs.ledger import Ledger
    from pplm.jobs.requests import Job, Request
    from pplm.models.processes import Processes


def with_progress(
    job: Job,
    requests: Iterable[Request],
    ledger: Ledger[Any],
    processes: Processes,
    total: int | None,
    *,
    lines_on_stdout: bool = False,
) -> Iterator[list[Request]]:
    """Run a job under a bar that moves with every token.

    Parameters
    ----------
    job, requests, ledger, processes
        As in `run_job`.
    total
        The number of prompts; None where it is unknown until they are read.
    lines_on_stdout
        Whether the texts go to stdout while the job runs; if that is a terminal, no bar is drawn between them.

    """
    from dataclasses import replace

    import torch

    from pplm.jobs.running import run_job

    given, each = ledger.given, sum(job.drawn) * job.arguments["max_new_tokens"]
    steps = None if total is None else max(1, (total - given) * each)
    done = 0
    shown = processes.main and not (lines_on_stdout and sys.stdout.isatty())
    with progress_bar("steering", "tokens", shown=shown) as on_progress:

        def show() -> None:
            if steps is None:
                on_progress(0, 1, f"{done:,} tokens")
            else:
                on_progress(min(done, steps), steps)

        def count_token(input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ARG001
            """Move the bar: transformers calls a stopping criterion once per token. It never stops anything."""
            nonlocal done
            done += len(input_ids) * processes.count
            show()
            return input_ids.new_zeros(len(input_ids), dtype=torch.bool)

        counting = replace(job, arguments={**job.arguments, "stopping_criteria": [count_token]})
        for window in run_job(counting, requests, ledger, processes):
            yield window
            done = max(done, (ledger.given - given) * each)  # texts that ended early
            show()
