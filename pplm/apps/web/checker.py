"""Checks for the guard whether the page can use a request's link or values, before the request is let through."""

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
        For every handler, by the number that gradio gives it: how many values it takes, and what refuses wrong ones.

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
        """Return why a handler's values cannot be used; "" where they can. The page shows the visitor the reason."""
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
