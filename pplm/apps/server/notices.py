"""Warnings that a client's request causes go to the client, and not into the server's log.

Python's `catch_warnings` acts on all threads at once, and requests are read in several, so each has
its own list.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pplm.errors import SteeringWarning

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


@contextmanager
def noticing() -> Iterator[None]:
    """While the server runs, give our warnings to the thread's `listening`, or drop them; show others as usual."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SteeringWarning)
        show = warnings.showwarning

        def hand_on(message: Warning | str, category: type[Warning], *place: Any, **others: Any) -> None:
            heard = _heard.get()
            if not issubclass(category, SteeringWarning):
                show(message, category, *place, **others)
            elif heard is not None:
                heard.append(str(message))

        warnings.showwarning = hand_on
        yield


@contextmanager
def listening() -> Iterator[list[str]]:
    """Yield a list that collects our warnings of the code inside."""
    heard: list[str] = []
    before = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(before)
