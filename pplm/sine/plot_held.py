"""The figure of waves held at an amplitude; needs matplotlib, the optional extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pplm.files.figures import new_figure, save_figure
from pplm.sine.held import TOLERANCE, HeldWaves, amplitude_over_time
from pplm.sine.network import SAMPLE_RATE

_COLOURS = {"unsteered": "#d55e00", "constant push": "#cc9a00", "controlled": "#0072b2"}


def plot_held(held: HeldWaves, path: Path) -> None:
    """Draw the first seed's three waves, and every seed's amplitude and push over time, into a file."""
    figure = new_figure(figsize=(8.2, 5.8), layout="constrained")
    ways = dict(zip(_COLOURS, (held.unsteered, held.constant, held.steered), strict=True))
    axes = figure.subplot_mosaic([[name] * 2 for name in ways] + [["amplitude", "push"]], height_ratios=[1, 1, 1, 2.4])
    time = torch.arange(held.steered.samples.shape[1]) / SAMPLE_RATE
    wanted = held.control.amplitude
    for name, drawn in ways.items():
        axes[name].axhspan(-wanted, wanted, color="0.9")
        axes[name].plot(time.numpy(), drawn.samples[0].numpy(), color=_COLOURS[name], linewidth=1.3)
        axes[name].set(xlim=(0, float(time[-1])), ylim=(-1.15, 1.15), yticks=[-wanted, 0, wanted], ylabel=name)
        lines = amplitude_over_time(drawn.samples, held.control.frequency)
        _plot_seeds(axes["amplitude"], time, lines, name)
        if name != "unsteered":
            _plot_seeds(axes["push"], time, drawn.push, name)
    axes["controlled"].set_xlabel("time (s)")
    axes["amplitude"].axhspan((1 - TOLERANCE) * wanted, (1 + TOLERANCE) * wanted, color="0.85")
    axes["amplitude"].axvline(2, color="0.5", linewidth=0.8, linestyle=":")
    axes["amplitude"].set(ylim=(0, 1.15), ylabel="amplitude over\nthe last period", xlabel="time (s)")
    axes["push"].set(ylabel="push", xlabel="time (s)")
    axes["push"].grid(visible=True, axis="y", alpha=0.3)
    title = f"wanted (grey): amplitude {wanted:g} at {held.control.frequency:g} Hz"
    figure.suptitle(f"{title}; above: seed {held.rows[0].seed}, below: {_count(len(held.rows))}")
    figure.legend(*axes["amplitude"].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path)


def _plot_seeds(axes: Any, time: torch.Tensor, lines: torch.Tensor, name: str) -> None:
    """Draw every seed as a thin line, the first one as a thick line."""
    axes.plot(time.numpy(), lines.T.numpy(), color=_COLOURS[name], linewidth=0.5, alpha=0.3)
    axes.plot(time.numpy(), lines[0].numpy(), color=_COLOURS[name], linewidth=1.8, label=name)
    axes.set_xlim(0, float(time[-1]))


def _count(seeds: int) -> str:
    return "the same seed" if seeds == 1 else f"all {seeds} seeds"
