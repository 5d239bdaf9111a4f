"""The figure of a benchmark: ratio against samples, and cost per token against the length of the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pplm.benchmark.rows import BenchmarkRow
from pplm.files.figures import new_figure, plain_minor_ticks, save_figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""One per attribute, distinct for colour-blind readers too (Okabe and Ito)."""
_UNSTEERED = "0.45"
_DTYPES = {
    "float32": {"linestyle": "-", "marker": "o"},
    "bfloat16": {"linestyle": "--", "marker": "s"},
    "float16": {"linestyle": ":", "marker": "^"},
}


def plot_benchmark(rows: Sequence[BenchmarkRow], path: Path, *, title: str) -> None:
    """Draw the rows into a file.

    The first panel shows ratios for the shortest text. The others show seconds per token and sample of steered and
    unsteered texts, one panel for each number of samples. A text's length counts its prompt and its new tokens.
    """
    counts = sorted({row.samples for row in rows})
    figure = new_figure(figsize=(4.2 * (1 + len(counts)), 4.6), layout="constrained")
    panels = [figure.add_subplot(1, 1 + len(counts), 1)]
    for place in range(2, 2 + len(counts)):  # the cost panels share one scale
        panels.append(figure.add_subplot(1, 1 + len(counts), place, sharey=panels[1] if place > 2 else None))
    shortest = min(_length(row) for row in rows)
    _plot_ratios(panels[0], [row for row in rows if _length(row) == shortest], shortest)
    for panel, count in zip(panels[1:], counts, strict=True):
        _plot_costs(panel, [row for row in rows if row.samples == count], count)
    figure.suptitle(title, fontsize="medium")
    handles = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, path)


def _plot_ratios(panel: Any, rows: Sequence[BenchmarkRow], length: int) -> None:
    """Draw ratios with their range over the rounds; each number format is compared with itself, not with float32."""
    for label, style, line in _lines(rows):
        points = sorted(line, key=lambda row: row.samples)
        ratios = [row.ratio for row in points]
        below = [max(0.0, row.ratio - row.ratio_range[0]) for row in points]
        above = [max(0.0, row.ratio_range[1] - row.ratio) for row in points]
        panel.errorbar([row.samples for row in points], ratios, yerr=[below, above], capsize=3, label=label, **style)
    counts = sorted({row.samples for row in rows})
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.minorticks_off()
    panel.set(xlabel="samples at once", ylabel="steered / unsteered seconds", ylim=(0, None))
    panel.set_title(f"ratio, texts of {length} tokens", fontsize="medium")
    panel.grid(visible=True, alpha=0.3)


def _plot_costs(panel: Any, rows: Sequence[BenchmarkRow], count: int) -> None:
    """Draw the cost on a logarithmic scale, where small times are legible too and equal ratios are equal distances."""
    for label, style, line in _lines(rows):
        points = sorted(line, key=_length)
        lengths = [_length(row) for row in points]
        panel.plot(lengths, [row.steered_seconds_per_token * 1000 for row in points], label=label, **style)
    first = rows[0].attribute  # unsteered runs are alike for all attributes; one line is enough
    for _, style, line in _lines([row for row in rows if row.attribute == first]):
        points = sorted(line, key=_length)
        lengths = [_length(row) for row in points]
        seconds = [row.unsteered_seconds_per_token * 1000 for row in points]
        panel.plot(lengths, seconds, label=f"unsteered, {line[0].dtype}", **{**style, "color": _UNSTEERED})
    panel.set(yscale="log", xlabel="tokens of the text", ylabel="ms per token and sample", xlim=(0, None))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(plain_minor_ticks())
    panel.set_title(f"cost, {count} sample{'s' if count > 1 else ''} at once", fontsize="medium")
    panel.grid(visible=True, which="both", alpha=0.3)


def _lines(rows: Sequence[BenchmarkRow]) -> list[tuple[str, dict[str, Any], list[BenchmarkRow]]]:
    """Return label, style and rows of each line: one per attribute and number format."""
    attributes = list(dict.fromkeys(row.attribute for row in rows))
    lines = []
    for key in dict.fromkeys((row.attribute, row.dtype) for row in rows):
        style = {"color": _COLOURS[attributes.index(key[0]) % len(_COLOURS)], **_DTYPES[key[1]], "markersize": 4}
        lines.append((", ".join(key), style, [row for row in rows if (row.attribute, row.dtype) == key]))
    return lines


def _length(row: BenchmarkRow) -> int:
    return row.prompt_tokens + row.new_tokens
