"""How a text shows itself in a notebook, given as plain values like those of a trace (`docs/trace.md`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def traced_html(text: Mapping[str, Any], attributes: Iterable[str]) -> str:
    """Return a traced text, shaded, with its charts; of the attributes only their names are known."""
    from pplm.apps.html import trace_fragment  # here: its jinja2 would be imported with every text otherwise

    described = [{"name": name, "avoids": False, "words": None, "label": None} for name in attributes]
    return trace_fragment({"schema_version": 1, "attributes": described, "texts": [text]})


def plain_html(text: Mapping[str, Any], facts: Iterable[str]) -> str:
    """Return a text that was not traced, and some facts about it."""
    from pplm.apps.html import text_fragment

    return text_fragment(text, list(facts))
