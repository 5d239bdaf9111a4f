"""Makes a server from its settings, and runs it until it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI

from pplm.apps.doors.address import LOOPBACK, allowed_hosts, listen, url
from pplm.apps.doors.connections import uvicorn_config
from pplm.apps.doors.key import ApiKey, check_key
from pplm.apps.doors.offers import Offers
from pplm.apps.server.app import LAST_SECONDS, make_app
from pplm.apps.server.limits import Limits
from pplm.apps.server.metrics import Metrics
from pplm.apps.server.reception import Reception
from pplm.apps.server.waiting import WaitingRoom
from pplm.apps.server.writer import Writer

GRACE_SECONDS = 30 - LAST_SECONDS - 1
"""How long running requests may take to finish after SIGTERM, so that the server ends within 30 seconds."""

_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a server.

    Attributes
    ----------
    host, port
        Where it listens; port 0 takes a free one.
    hosts
        Further host names that requests may use.
    key
        The key that requests have to give; None asks for none.
    origins
        Origins of web pages that may call it from a browser.
    offers, limits
        What clients may name, and how much they may ask for.

    Raises
    ------
    InputError
        If other machines can reach it and it has no key, or one of `hosts` is not a host name.

    """

    host: str = LOOPBACK
    port: int = 8000
    hosts: tuple[str, ...] = ()
    key: ApiKey | None = None
    origins: tuple[str, ...] = ()
    offers: Offers = field(default_factory=Offers)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Check who can reach it."""
        check_key(self.host, self.key)
        allowed_hosts(self.host, self.hosts)


def app_of(name: str, model: Any, tokenizer: Any, settings: Settings) -> FastAPI:
    """Return the app that serves a model under a name."""
    metrics = Metrics()
    reception = Reception(name, model, tokenizer, settings.offers, settings.limits)
    writer = Writer(model, tokenizer, metrics)
    room = WaitingRoom(writer.write, writer.fits, settings.limits, metrics)
    hosts = allowed_hosts(settings.host, settings.hosts)
    return make_app(reception, room, settings.limits, metrics, hosts=hosts, key=settings.key, origins=settings.origins)


def serve(
    name: str, load: Callable[[], tuple[Any, Any]], settings: Settings, *, on_ready: Callable[[str], None]
) -> None:
    """Serve a model until SIGTERM or an interrupt; requests that run then have `GRACE_SECONDS` to finish.

    Parameters
    ----------
    name
        The name that clients use for the model.
    load
        Returns the model and its tokenizer; called once it is certain that the port is free.
    settings
        The server's.
    on_ready
        Called with the server's address, before the first request is answered.

    Raises
    ------
    InputError
        If the port cannot be used, the model cannot be loaded, or an offer does not fit it.

    """
    with listen(settings.host, settings.port) as listener:
        model, tokenizer = load()
        app = app_of(name, model, tokenizer, settings)
        places = 4 * settings.limits.max_waiting + 100
        config = uvicorn_config(app, places=places, grace_seconds=GRACE_SECONDS)
        on_ready(url(settings.host, listener.getsockname()[1]))
        try:
            with _sigterm_is_an_end():
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            if app.state.room.busy:  # a token takes seconds: Python would wait for it, or abort in its midst
                os._exit(0 if sys.exc_info()[0] is None else _INTERRUPTED)


@contextmanager
def _sigterm_is_an_end() -> Iterator[None]:
    """Let SIGTERM end only the server: when all is done uvicorn raises it again, which would kill the process."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
