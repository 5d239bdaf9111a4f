"""Turns the document of a trace into HTML, which contains all that it needs and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pplm.apps.html import shown
from pplm.apps.html.chart import HEIGHT, panels
from pplm.errors import InputError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Pair:
    """What one tab shows: a steered and an unsteered text that were drawn with the same random numbers.

    Attributes
    ----------
    title
        The tab's.
    steered, unsteered
        (number in the document, text), or None where there is no such text.

    """

    title: str
    steered: tuple[int, dict[str, Any]] | None
    unsteered: tuple[int, dict[str, Any]] | None


def trace_page(document: Mapping[str, Any]) -> str:
    """Return a trace as one HTML file, which loads nothing.

    Parameters
    ----------
    document
        What `--trace` writes as JSON, of `schema_version` 1. The page holds all of it.

    Raises
    ------
    InputError
        If the document is of another version or has no text.

    """
    style, script = _static("trace.css") + _static("page.css"), _static("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            **_content(document),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            policy=f"default-src 'none'; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'",
            embedded=_embedded(document),
        )
    )


def trace_fragment(document: Mapping[str, Any]) -> str:
    """Return the texts of a trace, shaded, with their charts: HTML without scripts, for a notebook or another page.

    Parameters
    ----------
    document
        As for `trace_page`. Details are in the tokens' tooltips, which a tap shows too.

    Raises
    ------
    InputError
        As `trace_page`.

    """
    style = Markup(_static("trace.css"))  # noqa: S704 - our own file
    return _environment().get_template("fragment.html").render(**_content(document), style=style)


def text_fragment(text: Mapping[str, Any], facts: Sequence[str]) -> str:
    """Return one text that was not traced, with facts about it below, in the style of a trace.

    Parameters
    ----------
    text
        `text`, `completion` and `steered`, as a trace has them.
    facts
        One line each.

    """
    style = Markup(_static("trace.css"))  # noqa: S704 - our own file
    return _environment().get_template("plain.html").render(text=text, facts=facts, style=style)


def _content(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the templates show, after checking that this is a trace."""
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"document has schema_version {version!r}; this version of pplm shows traces of {SCHEMA_VERSION}. "
            "Make it again with pplm generate --trace"
        )
    if not document["texts"]:
        raise InputError("document holds no text; trace at least one")
    return {"trace": document, "pairs": _pairs(document["texts"])}


def _pairs(texts: Sequence[dict[str, Any]]) -> list[Pair]:
    """Put steered texts beside the unsteered ones of the same random numbers, in the order of the document."""
    found: dict[tuple[int, int, int | None], list[tuple[int, dict[str, Any]] | None]] = {}
    for number, text in enumerate(texts):
        pair = found.setdefault((text["prompt_index"], text["sample"], text["seed"]), [None, None])
        pair[not text["steered"]] = (number, text)
    several = len({prompt for prompt, _, _ in found}) > 1
    return [
        Pair(f"Prompt {prompt + 1}, sample {sample + 1}" if several else f"Sample {sample + 1}", *pair)
        for (prompt, sample, _), pair in found.items()
    ]


def _title(token: dict[str, Any]) -> str:
    """Return a token's numbers for its tooltip, one line each."""
    lines = [
        f"{name}: {shown.percent(level['unsteered'])} → {shown.percent(level['final'])} ({shown.points(level['gain'])})"
        for name, level in token["levels"].items()
        if level
    ]
    return "\n".join([*lines, f"KL {shown.number(token['kl'])} nats", *(f"word of {name}" for name in token["words"])])


def _lead(text: Mapping[str, Any]) -> str:
    """Return what stands before a text's completion: the prompt, and in a conversation an empty line after it."""
    return str(text["text"]).removesuffix(text["completion"])


def _indent(text: str) -> str:
    """Return the white space that a token begins with, which is not shaded; "" for a token of white space alone."""
    return text[: len(text) - len(text.lstrip())] if text.strip() else ""


def _shades(token: dict[str, Any], attributes: Sequence[dict[str, Any]]) -> list[int]:
    """Return how dark a token is shaded by each of the attributes; see `shade`."""
    return [shown.shade((token["levels"].get(attribute["name"]) or {}).get("gain")) for attribute in attributes]


def _mean_level(text: dict[str, Any], name: str, kind: str) -> float | None:
    """Return the mean of a level over the tokens of a text that have one; None if none has."""
    levels = [level[kind] for token in text["tokens"] if (level := token["levels"].get(name))]
    values = [value for value in levels if value is not None]
    return sum(values) / len(values) if values else None


def _embedded(document: Mapping[str, Any]) -> Markup:
    """Return a document as JSON that cannot end the script element around it: ASCII, without < and >."""
    text = json.dumps(document, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(text)  # noqa: S704 - escaped by the line above


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _static(name: str) -> str:
    return (files("pplm.apps.html") / "static" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: (files("pplm.apps.html") / "templates" / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown.clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": shown.percent,
        "points": shown.points,
        "number": shown.number,
        "setting": shown.setting,
        "title": _title,
        "lead": _lead,
        "shades": _shades,
        "indent_of": _indent,
        "mean_level": _mean_level,
        "explained": shown.explained,
        "panels": panels,
    }
    environment.globals |= {"HEIGHT": HEIGHT, "SHADES": shown.SHADES}
    return environment
