"""Curves over a text's tokens as paths of inline SVG, which is stretched; labels stand beside it, unstretched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from pplm.apps.html.shown import explained, number, percent

HEIGHT = 100
"""Height of a drawing in its own units, in which a token is 1 wide. The page stretches it to any size."""
_PEAKS = 3
"""At most this many peaks are cut off, so that the rest of a curve can be seen."""
_TOWERS = 2.5
"""Peaks are cut off only if each is more than this many times as high as all the rest."""
_LOWEST = 10
"""An axis ends no lower than at a tenth of its highest peak: smaller values are not worth a look."""
_APART = 6
"""Of cut peaks that are less than a sixth of the width apart, only the highest is labelled."""
_ROUND = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing: a title, the number at its upper edge, and the paths.

    Attributes
    ----------
    name
        The attribute's, or None for the divergence.
    final, unsteered, between, bars
        Paths, as values of SVG's `d`; "" where there is nothing to draw.
    cut
        Peaks that reach beyond the upper edge: (place as a share of the width, height as text).

    """

    name: str | None
    title: str
    top: str
    final: str = ""
    unsteered: str = ""
    between: str = ""
    bars: str = ""
    cut: Sequence[tuple[float, str]] = ()


def panels(text: dict[str, Any], attributes: Sequence[dict[str, Any]]) -> list[Panel]:
    """Return the drawings of one text: the level of each attribute that has one, then the divergence."""
    found = [_level(text["tokens"], attribute) for attribute in attributes]
    return [panel for panel in found if panel is not None] + [_divergence(text["tokens"])]


def _level(tokens: Sequence[dict[str, Any]], attribute: dict[str, Any]) -> Panel | None:
    name = attribute["name"]
    levels = [token["levels"].get(name) or {} for token in tokens]
    final, unsteered = ([level.get(kind) for level in levels] for kind in ("final", "unsteered"))
    highest = [_highest(both) for both in zip(final, unsteered, strict=True)]
    if all(value is None for value in highest):
        return None
    top = _top(highest)
    return Panel(
        name=name,
        title=f"{name}: {explained(attribute)}",
        top=percent(top),
        final=_line(final, top),
        unsteered=_line(unsteered, top),
        between=_between(final, unsteered, top),
        cut=[(place, percent(value)) for place, value in _cut(highest, top)],
    )


def _divergence(tokens: Sequence[dict[str, Any]]) -> Panel:
    values = [token["kl"] for token in tokens]
    top = _top(values)
    bars = "".join(
        f"M{place + 0.2:g} {HEIGHT}V{_height(value, top)}H{place + 0.8:g}V{HEIGHT}Z"
        for place, value in enumerate(values)
        if value
    )
    cut = [(place, number(value)) for place, value in _cut(values, top)]
    return Panel(name=None, title="Distance from unsteered (KL, nats)", top=number(top), bars=bars, cut=cut)


def _line(values: Sequence[float | None], top: float) -> str:
    """Draw a line through the middle of each token, broken where there is no value."""
    return "".join("M" + "L".join(_points(run, values, top)) for run in _runs(values))


def _between(final: Sequence[float | None], unsteered: Sequence[float | None], top: float) -> str:
    both = [None if one is None or other is None else one for one, other in zip(final, unsteered, strict=True)]
    return "".join(
        "M" + "L".join([*_points(run, final, top), *reversed(_points(run, unsteered, top))]) + "Z"
        for run in _runs(both)
    )


def _points(run: Sequence[int], values: Sequence[float | None], top: float) -> list[str]:
    points = [f"{place + 0.5:g} {_height(values[place] or 0.0, top)}" for place in run]
    if len(points) == 1:  # a single value becomes a short level line, so that it can be seen
        height = points[0].split(" ")[1]
        return [f"{run[0] + 0.1:g} {height}", f"{run[0] + 0.9:g} {height}"]
    return points


def _runs(values: Sequence[float | None]) -> Iterator[list[int]]:
    """Yield the places of each run of values without a gap."""
    for there, places in groupby(range(len(values)), key=lambda place: values[place] is not None):
        if there:
            yield list(places)


def _height(value: float, top: float) -> str:
    return f"{HEIGHT - HEIGHT * max(value, 0.0) / top:.5g}"


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _top(values: Sequence[float | None]) -> float:
    """Return where an axis ends: above all values, or below a few peaks that would flatten all the others."""
    found = sorted((value for value in values if value is not None), reverse=True)
    if not found or found[0] <= 0:
        return 1.0
    few = min(_PEAKS, len(found) // 10)
    top = next((low for high, low in pairwise(found[: few + 1]) if _TOWERS * low < high), found[0])
    return _round_up(max(top, found[0] / _LOWEST))


def _cut(values: Sequence[float | None], top: float) -> list[tuple[float, float]]:
    """Return the (place, height) of the peaks above an axis, from left to right, none close beside a higher one."""
    found: list[tuple[float, float]] = []
    for value, index in sorted(((value, index) for index, value in enumerate(values) if value), reverse=True):
        place = (index + 0.5) / len(values)
        if value > top and all(abs(place - other) * _APART >= 1 for other, _ in found):
            found.append((place, value))
    return sorted(found)


def _round_up(value: float) -> float:
    """Return the next larger number that reads well: one digit, 1.5 or 2.5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _ROUND if step * power >= value * (1 - 1e-9))
