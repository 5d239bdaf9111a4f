"""What a job has made but not yet given out: prompts are given out in input order, each with all of its texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from pplm.jobs.requests import FAILED, Failed, Key, Made, Request

Item = TypeVar("Item")
Outcome = Made | Failed


class Ledger(Generic[Item]):
    """The texts of a job between being made and being given out; it has the same keys in every process.

    Parameters
    ----------
    form
        Turns an outcome into the item to give out; called in the process that made it.

    """

    def __init__(self, form: Callable[[Outcome], Item]) -> None:
        self.form = form
        self.given = 0  # number of prompts that were given out whole
        self.skipped = 0  # number of lines of the next prompt that an earlier run gave out
        self.waiting: dict[Key, Item] = {}

    def is_given(self, request: Request) -> bool:
        """Return whether all of a prompt's texts have been given out."""
        return request.number < self.given or (request.number == self.given and self.skipped >= request.texts)

    def is_out(self, key: Key) -> bool:
        """Return whether a text has been given out."""
        number, position = key
        return number < self.given or (number == self.given and 0 <= position < self.skipped)

    def has(self, key: Key) -> bool:
        """Return whether a text need not be made: it is out, waits here, or its prompt failed."""
        return self.is_out(key) or key in self.waiting or (key[0], FAILED) in self.waiting

    def keep(self, items: Sequence[tuple[Key, Item]]) -> None:
        """Add what was made; a key that is already there keeps its item."""
        for key, item in items:
            self.waiting.setdefault(key, item)

    def release(self, window: Sequence[Request]) -> Iterator[Item]:
        """Yield the items of a window's prompts in order, up to the first prompt that is not complete."""
        for request in window:
            if self.is_given(request):
                continue
            failed = (request.number, FAILED)
            skipped = self.skipped if request.number == self.given else 0
            keys = [failed] if failed in self.waiting else request.keys[skipped:]
            if not all(key in self.waiting for key in keys):
                return
            for key in keys:
                yield self.waiting[key]
            self.given, self.skipped = request.number + 1, 0
            for key in {failed, *request.keys}:
                self.waiting.pop(key, None)
