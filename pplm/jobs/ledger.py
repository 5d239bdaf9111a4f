"""What a job has made and not yet given out: prompts leave in the order of the input, each with all of its texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from pplm.jobs.requests import FAILED, Failed, Key, Made, Request

Item = TypeVar("Item")
Outcome = Made | Failed


class Ledger(Generic[Item]):
    """The texts of a job in between; the same in all of several processes.

    Parameters
    ----------
    form
        Makes of an outcome what is given out; called in the process that made it.

    """

    def __init__(self, form: Callable[[Outcome], Item]) -> None:
        self.form = form
        self.given = 0  # prompts that were given out whole
        self.skipped = 0  # lines of the next prompt that were given out before
        self.waiting: dict[Key, Item] = {}

    def is_given(self, request: Request) -> bool:
        """Return whether all of a prompt's texts were given out."""
        return request.number < self.given or (request.number == self.given and self.skipped >= request.texts)

    def is_out(self, key: Key) -> bool:
        """Return whether a text was given out."""
        number, position = key
        return number < self.given or (number == self.given and 0 <= position < self.skipped)

    def has(self, key: Key) -> bool:
        """Return whether a text need not be made."""
        return self.is_out(key) or key in self.waiting or (key[0], FAILED) in self.waiting

    def keep(self, items: Sequence[tuple[Key, Item]]) -> None:
        """Take what was made, but for what is there already."""
        for key, item in items:
            self.waiting.setdefault(key, item)

    def release(self, window: Sequence[Request]) -> Iterator[Item]:
        """Give out the prompts of a window that are complete and have none before them that is not."""
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
