"""One text while it grows: the part that may be shown, and why it ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pplm.text.details import NewToken

FinishReason = Literal["stop", "length"]
"""Why a text ended: by itself or at a stop string; at its length, or because its time was up."""


@dataclass
class Answer:
    """One text of a request.

    Attributes
    ----------
    stops
        Strings that end it and do not belong to it.
    ends
        Token ids that end it.
    shown
        The part that may be shown: all but an end that may yet turn out to begin a stop string.
    tokens
        New tokens so far.
    levels
        Levels of the attributes in it, with the dial; else empty.
    idle
        Names of the attributes that could not act on it so far.
    finish
        Why it ended; None while it grows.

    """

    stops: Sequence[str] = ()
    ends: Collection[int] = ()
    shown: str = ""
    tokens: int = 0
    levels: Mapping[str, float] = field(default_factory=dict)
    idle: Collection[str] = ()
    finish: FinishReason | None = None
    _waiting: str = field(default="", repr=False)

    def add(self, new: NewToken) -> str:
        """Take the next token; return the piece of the text that may be shown now.

        A token that it has already, because its batch is generated again, changes nothing.
        """
        if new.position < self.tokens or self.finish is not None:
            return ""
        self.tokens += 1
        self.levels, self.idle = new.levels, new.idle
        self._waiting += new.text
        if (stop := _first(self._waiting, self.stops)) is not None:
            self._waiting, self.finish = self._waiting[:stop], "stop"
        elif new.finished:
            self.finish = "stop" if new.token_id in self.ends else "length"
        return self._show(0 if self.finish else _begun(self._waiting, self.stops))

    def cut(self) -> str:
        """End the text where it is, because its time is up; return the piece that was held back."""
        self.finish = self.finish or "length"
        return self._show(0)

    def has_ended(self, new: NewToken) -> bool:
        """Return whether the text has ended and this token, which has been added, is its last."""
        return self.finish is not None and new.position >= self.tokens - 1

    def _show(self, kept: int) -> str:
        piece = self._waiting[: len(self._waiting) - kept]
        self._waiting = self._waiting[len(piece) :]
        self.shown += piece
        return piece


def _first(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first stop string begins."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def _begun(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of a text may begin a stop string."""
    return max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
