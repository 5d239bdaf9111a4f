"""Which visitor's texts are being written or wait for their turn, so that they can be stopped."""

from __future__ import annotations

import threading

from pplm.apps.web.running import Reins


class Visits:
    """Reins by visitor; a visitor has one request at a time.

    Parameters
    ----------
    seconds
        How long the texts of one request may take.

    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._reins: dict[str, Reins] = {}
        self._lock = threading.Lock()

    def begin(self, visitor: str) -> Reins:
        """Return new reins for a visitor's request; an earlier one of the same visitor ends."""
        reins = Reins(self._seconds)
        with self._lock:
            before, self._reins[visitor] = self._reins.get(visitor), reins
        if before is not None:
            before.stop()
        return reins

    def find(self, visitor: str) -> Reins | None:
        """Return the reins of a visitor's request; None once it has ended."""
        with self._lock:
            return self._reins.get(visitor)

    def stop(self, visitor: str) -> None:
        """End a visitor's texts, or take them out of the queue."""
        if (reins := self.find(visitor)) is not None:
            reins.stop()

    def leave(self, visitor: str) -> bool:
        """End a visitor's texts and forget them; return whether there was something to end."""
        with self._lock:
            reins = self._reins.pop(visitor, None)
        if reins is not None:
            reins.stop()
        return reins is not None

    def end(self, visitor: str, reins: Reins) -> None:
        """Forget a request that has ended."""
        with self._lock:
            if self._reins.get(visitor) is reins:
                del self._reins[visitor]
