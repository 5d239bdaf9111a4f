"""The connections of a door: how many at once, and how long it waits for a client to send or to receive.

By itself uvicorn bounds only how long a connection idles between two requests: a client that sends a request byte by
byte, or never takes its answer, would keep its place for ever. This is the one module here that needs uvicorn, which
both extras bring along.
"""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

CLIENT_SECONDS = 20
"""How long a request's head may take to arrive, then its body, and how long an answer may wait to be received."""


def uvicorn_config(app: ASGIApp, *, places: int, grace_seconds: int) -> uvicorn.Config:
    """Return how uvicorn serves an app.

    Parameters
    ----------
    places
        Connections at once; requests on further ones are answered with 503.
    grace_seconds
        How long requests that run may take to finish when the server is told to stop.

    """
    return uvicorn.Config(
        app,
        access_log=False,
        http=PatientProtocol,
        lifespan="on",
        limit_concurrency=places,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=grace_seconds,
        ws="none",
    )


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a bound on every wait for the client; the app bounds how long its own work takes."""

    _deadline: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        _cancel(self._deadline, self._stuck)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start the timer for the rest of this request, if any, for its answer to be received, and for the next one."""
        self._await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start the timer for the client to receive what it was sent."""
        super().pause_writing()
        self._stuck = self.loop.call_later(CLIENT_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel that timer and go on with the answer."""
        _cancel(self._stuck)
        super().resume_writing()

    def _await_request(self) -> None:
        _cancel(self._deadline)
        self._deadline = self.loop.call_later(CLIENT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """Close the connection unless a request is being answered."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
