"""What the guard asks of a request that it could let through: whether the page can use the link, or the values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pplm.apps.web.handlers import Page
from pplm.errors import InputError


@dataclass(frozen=True)
class PageChecker:
    """See `pplm.apps.web.guard.Checker`.

    Attributes
    ----------
    page
        The page.
    checks
        By the number that gradio gives a handler, of all: how many values it takes, and what refuses them.

    """

    page: Page
    checks: Mapping[int, tuple[int, Callable[..., Any]]]

    def link(self, pairs: Iterable[tuple[str, str]]) -> str:
        """Return why a link cannot be used; "" where it can."""
        try:
            self.page.read_link(pairs)
        except InputError as error:
            return str(error)
        return ""

    def values(self, body: Mapping[str, Any]) -> str:
        """Return why a handler's values cannot be used; "" where they can. The visitor finds the reason on the page."""
        number = body.get("fn_index")
        if type(number) is not int:  # gradio would also take "3"
            return "fn_index must be a whole number"
        if number not in self.checks:  # gradio would fail
            return f"fn_index must be between 0 and {max(self.checks)}; got {number}"
        count, check = self.checks[number]
        if len(body["data"]) != count:
            return f"this takes {count} values; got {len(body['data'])}"
        try:
            check(*body["data"])
        except InputError as error:
            self.page.visits.refuse(str(body.get("session_hash")), str(error))
            return str(error)
        return ""
