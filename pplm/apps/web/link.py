"""A link that restores all settings of the page: its query string, written and read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any
from urllib.parse import urlencode

from pplm.apps.web.request import PageRequest
from pplm.errors import InputError

_DEFAULTS = PageRequest()
_NAMES = tuple(field.name for field in fields(PageRequest))
LONGEST_LINK = 8000
"""Characters of a query string; not every browser and proxy passes on longer ones."""


def query_of(request: PageRequest) -> str:
    """Return the query string of a request: its prompt, and all settings that are not at their default.

    Raises
    ------
    InputError
        If it is too long for a link.

    """
    pairs: list[tuple[str, str]] = []
    for name in _NAMES:
        value = getattr(request, name)
        if name == "prompt" or value != getattr(_DEFAULTS, name):
            pairs += [(name, _written(one)) for one in (value if isinstance(value, tuple) else (value,))]
    query = urlencode(pairs)
    if len(query) > LONGEST_LINK:
        raise InputError(f"a link may have at most {LONGEST_LINK} characters; this one has {len(query)}")
    return query


def request_of(pairs: Iterable[tuple[str, str]]) -> PageRequest:
    """Read the pairs of a query string.

    Raises
    ------
    InputError
        If there is no such setting, it is given twice, or its value cannot be used.

    """
    given: dict[str, Any] = {}
    pairs = list(pairs)
    if sum(len(name) + len(text) for name, text in pairs) > LONGEST_LINK:
        raise InputError(f"the link is longer than {LONGEST_LINK} characters; shorten the prompt or the words")
    for name, text in pairs:
        if name not in _NAMES:
            raise InputError(f"the link sets {name[:60]!r}, which is not a setting of the page; leave it out")
        default = getattr(_DEFAULTS, name)
        if isinstance(default, tuple):
            given[name] = (*given.get(name, ()), text)
        elif name in given:
            raise InputError(f"the link sets {name} twice; leave one out")
        else:
            given[name] = _read(name, text, default)
    return PageRequest(**given)


def _written(value: Any) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)


def _read(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text not in ("0", "1"):
            raise InputError(f"the link's {name} must be 0 or 1; got {text[:60]!r}")
        return text == "1"
    if isinstance(default, str):
        return text
    try:
        return type(default)(text)
    except ValueError:
        raise InputError(f"the link's {name} must be a number; got {text[:60]!r}") from None
