"""The requests that wait, and the one thread that answers them, batch by batch.

Requests are taken in the order of their arrival. The first one decides how the next batch is made; all others that are
made in the same way and fit beside it join it. So none is overtaken for ever, and a batch is as full as it can be.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from pplm.apps.server.errors import DEFECT, ApiError
from pplm.apps.server.jobs import Job
from pplm.apps.server.limits import Limits
from pplm.apps.server.metrics import Metrics

_log = logging.getLogger(__name__)


class WaitingRoom:
    """Where requests wait.

    Parameters
    ----------
    run
        Answers a batch of requests, in the worker's thread.
    fits
        Whether requests whose texts are made in the same way can share a batch.
    limits, metrics
        Of the server.

    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], None],
        fits: Callable[[Sequence[Job]], bool],
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._run, self._fits, self._limits, self._metrics = run, fits, limits, metrics
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running: Sequence[Job] = ()
        self._reserved = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="pplm-worker", daemon=True)

    def start(self) -> None:
        """Start the worker's thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End the requests that run and wait, and give the worker this many seconds to finish its token."""
        with self._changed:
            self._stopped = True
            jobs = [*self._waiting, *self._running]
            self._waiting.clear()
            self._changed.notify_all()
        for job in jobs:
            job.left = True
            job.end(ApiError(503, "the server is stopping; try another one"))
        self._thread.join(seconds)

    @property
    def works(self) -> bool:
        """Whether requests will be answered."""
        return self._thread.is_alive() and not self._stopped

    @property
    def busy(self) -> bool:
        """Whether the worker's thread still runs."""
        return self._thread.is_alive()

    def reserve(self) -> None:
        """Keep a place for a request that is being read.

        Raises
        ------
        ApiError
            With status 429, if all places are taken.

        """
        with self._changed:
            if len(self._waiting) + self._reserved >= self._limits.max_waiting:
                self._metrics.turned_away.inc()
                most = self._limits.max_waiting
                raise ApiError(
                    429, f"{most} requests are waiting already; try again later", headers={"Retry-After": "1"}
                )
            self._reserved += 1

    def release(self) -> None:
        """Give back a reserved place."""
        with self._changed:
            self._reserved -= 1

    def enter(self, job: Job) -> None:
        """Let a request wait for its turn."""
        with self._changed:
            if self._stopped:
                raise ApiError(503, "the server is stopping; try another one")
            self._waiting.append(job)
            self._note()
            self._changed.notify_all()

    def leave(self, job: Job) -> None:
        """Forget a request that is over or whose client has left: it waits no longer, and ends with its next token."""
        with self._changed:
            job.left = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._note()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                batch = self._running = self._take()
                self._note()
            if batch:
                self._answer(batch)
            with self._changed:
                self._running = ()
                self._note()

    def _answer(self, batch: Sequence[Job]) -> None:
        self._metrics.batch_texts.observe(sum(len(job.rows) for job in batch))
        try:
            self._run(batch)
        except Exception:  # noqa: BLE001 - the worker has to survive whatever a request causes
            _log.exception("a batch failed")
            for job in batch:
                job.end(ApiError(500, DEFECT))

    def _take(self) -> Sequence[Job]:
        """Remove the requests of the next batch from those that wait, and refuse those whose time is up."""
        for job in [job for job in self._waiting if job.late]:
            self._waiting.remove(job)
            job.end(ApiError(503, f"no turn came within {self._limits.max_seconds} seconds; try again later"))
        batch: list[Job] = []
        texts = 0
        for job in self._waiting:
            if texts + len(job.rows) > self._limits.max_batch_size and batch:
                continue
            if not batch or (job.way == batch[0].way and self._fits([*batch, job])):
                batch.append(job)
                texts += len(job.rows)
        for job in batch:
            self._waiting.remove(job)
        return batch

    def _note(self) -> None:
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len(self._running))
