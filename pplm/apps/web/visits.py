"""Which visitor's texts are being written or wait for their turn, so that they can be stopped."""

from __future__ import annotations

import threading

from pplm.apps.web.running import Reins

MOST = 1000
"""Most visitors remembered at once: each takes some hundred bytes, and anybody can make up new ones."""


class Visits:
    """The `Reins` of each visitor's request; a visitor has one request at a time.

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
        """Return new reins for a visitor's request; an earlier one of the same visitor ends.

        If there are too many visitors, the one who has waited longest is forgotten; texts being written stay.
        """
        reins = Reins(self._seconds)
        with self._lock:
            before = self._reins.pop(visitor, None)
            if len(self._reins) >= MOST:
                longest = next((name for name, own in self._reins.items() if not own.started), None)
                if longest is not None:
                    del self._reins[longest]
            self._reins[visitor] = reins
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

    def refuse(self, visitor: str, why: str) -> None:
        """Keep the reason why a visitor's request cannot be used, unless its texts are being written."""
        if (reins := self.find(visitor)) is not None and not reins.started:
            reins.refused = why

    def leave(self, visitor: str) -> Reins | None:
        """End a visitor's texts and forget them; return their reins, None where there was nothing to end."""
        with self._lock:
            reins = self._reins.pop(visitor, None)
        if reins is not None:
            reins.stop()
        return reins

    def end(self, visitor: str, reins: Reins) -> None:
        """Forget a request that has ended."""
        with self._lock:
            if self._reins.get(visitor) is reins:
                del self._reins[visitor]
