"""The figure of the sine-wave experiment; needs matplotlib, the optional extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pplm.files.figures import new_figure, save_figure
from pplm.sine.experiment import MeasuredWaves, squared_error
from pplm.sine.network import SAMPLE_RATE

_TRUE = {"color": "0.75", "linewidth": 4.0, "label": "wanted"}
_UNSTEERED = {"color": "#d55e00", "linewidth": 1.3, "label": "unsteered"}
_STEERED = {"color": "#0072b2", "linewidth": 1.3, "label": "steered"}
ZOOM = 2 * SAMPLE_RATE
"""Samples that the zoom shows: 2 s."""
SMALLEST_ERROR = 1e-3
"""Lower end of the logarithmic error axis, which cannot show the given samples' error of 0."""


def plot_comparison(comparison: MeasuredWaves, path: Path, *, title: str) -> int:
    """Draw one seed's waves, their first 2 s and every seed's cumulative squared error into a file.

    Return the drawn seed: the one with the median unsteered error.
    """
    errors = torch.tensor([row.unsteered_sse for row in comparison.rows])
    shown = int(errors.argsort()[(len(errors) - 1) // 2])
    figure = new_figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplot_mosaic([["unsteered"] * 2, ["steered"] * 2, ["zoom", "error"]], height_ratios=[1, 1, 1.4])
    time = torch.arange(len(comparison.wanted)) / SAMPLE_RATE
    unsteered, steered = comparison.unsteered.samples[shown], comparison.steered.samples[shown]
    for name, lines in (
        ("unsteered", [(unsteered, _UNSTEERED)]),
        ("steered", [(steered, _STEERED)]),
        ("zoom", [(unsteered, _UNSTEERED), (steered, _STEERED)]),
    ):
        end = ZOOM if name == "zoom" else len(time)
        for wave, style in [(comparison.wanted, _TRUE), *lines]:
            axes[name].plot(time[:end].numpy(), wave[:end].numpy(), **style)
        axes[name].set(xlim=(0, end / SAMPLE_RATE), ylim=(-1.15, 1.15), ylabel=name, yticks=[-1, 0, 1])
    axes["steered"].set_xlabel("time (s)")
    axes["zoom"].set(xlabel="time (s)", ylabel="first 2 s", xticks=[0, 0.5, 1, 1.5, 2])
    _plot_errors(axes["error"], comparison, time, shown)
    figure.suptitle(f"{title}; waves of seed {comparison.rows[shown].seed}")
    figure.legend(*axes["zoom"].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path)
    return comparison.rows[shown].seed


def _plot_errors(axes: Any, comparison: MeasuredWaves, time: torch.Tensor, shown: int) -> None:
    """Draw every seed as a thin line, the shown one as a thick line."""
    for waves, style in ((comparison.unsteered, _UNSTEERED), (comparison.steered, _STEERED)):
        errors = squared_error(waves.samples, comparison.wanted).clamp(min=SMALLEST_ERROR)
        axes.plot(time.numpy(), errors.T.numpy(), color=style["color"], linewidth=0.6, alpha=0.35)
        axes.plot(time.numpy(), errors[shown].numpy(), color=style["color"], linewidth=2.2)
    axes.set(yscale="log", xlim=(0, len(time) / SAMPLE_RATE), xlabel="time (s)", ylabel="cumulated squared error")
    if len(comparison.rows) > 1:
        axes.set_title("thin: the other seeds", fontsize="small", loc="right")
    axes.grid(visible=True, axis="y", alpha=0.3)
