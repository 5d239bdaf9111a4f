"""How a text is shown in a notebook, given as plain values like those of a trace (`docs/trace.md`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def traced_html(text: Mapping[str, Any], attributes: Iterable[str]) -> str:
    """Return a traced text, shaded, with its charts; `attributes` are their names."""
    from pplm.apps.html import trace_fragment  # here, or every text would import its jinja2

    described = [{"name": name, "avoids": False, "words": None, "label": None} for name in attributes]
    return trace_fragment({"schema_version": 1, "attributes": described, "texts": [text]})


def plain_html(text: Mapping[str, Any], facts: Iterable[str]) -> str:
    """Return a text that was not traced, with some facts about it."""
    from pplm.apps.html import text_fragment

    return text_fragment(text, list(facts))
