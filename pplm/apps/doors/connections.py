"""The connections of a door: how many there may be, and how long it waits for what clients send and take.

uvicorn bounds how long a connection rests between two requests, and nothing else: a client that sends a request byte by
byte, or never takes its answer, would keep its place for ever. This is the one module here that needs uvicorn, which
both extras bring along.
"""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

CLIENT_SECONDS = 20
"""In which a request's head has to arrive, then its body; and for which an answer may lie there without being taken."""


def uvicorn_config(app: ASGIApp, *, places: int, grace_seconds: int) -> uvicorn.Config:
    """Return how uvicorn serves an app.

    Parameters
    ----------
    places
        Connections at once; requests on further ones are answered by 503.
    grace_seconds
        In which what runs may be finished when the server is told to stop.

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
    """uvicorn's HTTP/1.1, with a bound for every wait for the client; what stands behind it bounds its own work."""

    _deadline: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        _cancel(self._deadline, self._stuck)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the rest of this request, where there is any, for its answer to be taken, for the next."""
        self._await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what it was sent."""
        super().pause_writing()
        self._stuck = self.loop.call_later(CLIENT_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with the answer."""
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
