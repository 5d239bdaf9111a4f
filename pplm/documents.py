"""A trace as one document of plain values, for JSON and for display; `docs/trace.md` lists its fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from pplm.apps.html import trace_fragment
from pplm.config import SteeringConfig
from pplm.files.lines import finite
from pplm.generated_text import Generation
from pplm.interface import AttributeModel, WeightedAttribute, weigh_attributes
from pplm.presets import kind_of

SCHEMA_VERSION = 1
"""Incremented when a field changes its meaning or is removed, but not when one is added."""


class TraceDocument(dict[str, Any]):
    """A trace as a dictionary that shows itself in a notebook: its texts, shaded, with their charts."""

    def _repr_html_(self) -> str:
        return trace_fragment(self)


def trace_document(
    texts: Sequence[Generation],
    *,
    command: str,
    model: str,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
    steering: SteeringConfig,
) -> TraceDocument:
    """Return traced texts, and what they were made with, as a document ready for JSON.

    Parameters
    ----------
    texts
        Made by `generate(..., trace=...)`, steered and unsteered ones in any order.
    command
        The command that makes the texts again, as a reader would type it; "" if there is none.
    model
        The language model's name.
    attributes, steering
        As `generate` took them.

    Raises
    ------
    InputError
        If a text was not traced.

    """
    return TraceDocument(
        finite(
            {
                "schema_version": SCHEMA_VERSION,
                "pplm": version("pplm"),
                "command": command,
                "model": model,
                "steering": asdict(steering),
                "attributes": [_described(attribute) for attribute in weigh_attributes(attributes)],
                "texts": [text.traced() for text in texts],
            }
        )
    )


def _described(attribute: WeightedAttribute) -> dict[str, Any]:
    own = attribute.model
    named = getattr(own, "attribute", own)  # what is avoided
    words = getattr(named, "words", None)
    return {
        "name": attribute.name,
        "kind": kind_of(own),
        "weight": attribute.weight,
        "avoids": bool(getattr(own, "avoids", False)),
        "words": None if words is None else list(words),
        "label": getattr(named, "label", None),
    }
