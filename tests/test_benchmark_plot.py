"""The figure of a benchmark shows every number where it belongs."""

import pytest

from pplm.benchmark import Case
from pplm.benchmark import plot as plot_module
from pplm.benchmark.plot import plot_benchmark
from pplm.benchmark.rows import Measured, rows_of


@pytest.fixture
def figure(monkeypatch, tmp_path):
    """Draw a benchmark of two attributes, two formats, three numbers of samples and two lengths."""
    figures, new_figure = [], plot_module.new_figure

    def watched(**settings):
        figures.append(new_figure(**settings))
        return figures[-1]

    monkeypatch.setattr(plot_module, "new_figure", watched)
    measured = [
        (
            Case(attribute, samples, prompt, 10, dtype),
            Measured([samples * prompt / 100], [samples * prompt / 100 * ratio / samples**0.5]),
        )
        for attribute, ratio in (("bag", 8.0), ("discriminator", 40.0))
        for dtype in ("float32", "bfloat16")
        for samples in (1, 4, 16)
        for prompt in (90, 10)
    ]
    plot_benchmark(rows_of(measured), tmp_path / "cost.svg", title="a machine")
    assert "<svg" in (tmp_path / "cost.svg").read_text(encoding="utf-8")
    return figures[0]


def points(panel):
    """Return the points of a panel's lines by colour and style; error bars have their own, without a marker."""
    lines = [line for line in panel.get_lines() if line.get_marker() in ("o", "s", "^")]
    shown = [[(float(x), round(float(y), 6)) for x, y in zip(*line.get_data(), strict=True)] for line in lines]
    return {
        (line.get_color(), line.get_linestyle()): line_points for line, line_points in zip(lines, shown, strict=True)
    }


def test_ratios_are_drawn_against_samples_for_the_shortest_text(figure):
    drawn = points(figure.axes[0])
    assert len(drawn) == 4
    assert sorted(drawn.values())[0] == [(1, 8), (4, 4), (16, 2)]
    assert sorted(drawn.values())[-1] == [(1, 40), (4, 20), (16, 10)]
    assert "20 tokens" in figure.axes[0].get_title()


def test_cost_is_drawn_against_length_steered_and_unsteered_for_each_number_of_samples(figure):
    assert len(figure.axes) == 1 + 3
    drawn = points(figure.axes[1])
    assert len(drawn) == 4 + 2  # both attributes and plain decoding, in both formats
    assert drawn["0.45", "-"] == [(20, 10), (100, 90)]  # ms: 0.1 s and 0.9 s for 10 tokens
    assert sorted(drawn.values())[-1] == [(20, 400), (100, 3600)]


def test_all_panels_of_cost_have_one_scale(figure):
    limits = {tuple(panel.get_ylim()) for panel in figure.axes[1:]}
    assert len(limits) == 1
    for panel in figure.axes[1:]:
        low, high = panel.get_ylim()
        assert all(low < y < high for line in points(panel).values() for _, y in line)


def test_every_line_is_explained_once(figure):
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == sorted(
        f"{name}, {dtype}" for name in ("bag", "discriminator", "unsteered") for dtype in ("float32", "bfloat16")
    )
