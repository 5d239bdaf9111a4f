"""What the pictures of a comparison and of a sweep show."""

from dataclasses import replace

import pytest
from comparison_reports import JUDGES, comparison, row, sweep

from pplm import InputError
from pplm.comparison.methods import PAPER_METHODS
from pplm.comparison.pictures import plot_attributes, plot_methods
from pplm.comparison.sweep_report import plot_frontier


@pytest.mark.parametrize("judges", [JUDGES, ()])
def test_pictures_are_drawn_with_and_without_a_judge(tmp_path, judges):
    report = comparison(judges)
    apart = [row for row in report.rows if row.attribute]
    title = plot_methods(report.together, report.main, tmp_path / "methods.png")
    assert ("perplexity" in title) == bool(judges)
    plot_attributes(apart, report.main, tmp_path / "attributes.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("methods.png", "attributes.png"))
    with pytest.raises(InputError, match="cannot be written"):
        plot_methods(report.together, report.main, tmp_path / "missing" / "methods.png")


@pytest.fixture
def figures(monkeypatch):
    """The figures that would be written, in order."""
    kept = []
    for module in ("pictures", "sweep_report"):
        monkeypatch.setattr(f"pplm.comparison.{module}.save_figure", lambda figure, _: kept.append(figure))
    return kept


def legend(figure):
    (found,) = figure.legends
    return found.get_title().get_text().splitlines(), [text.get_text() for text in found.get_texts()]


def test_pictures_say_what_their_methods_and_their_lines_are(figures, tmp_path):
    report = comparison(JUDGES)
    plot_methods(report.together, report.main, tmp_path / "methods.png")
    plot_attributes([row for row in report.rows if row.attribute], report.main, tmp_path / "attributes.png")
    for figure in figures:
        title, labels = legend(figure)
        assert "95% intervals" in title[0]
        assert [label.split(":")[0] for label in labels] == [row.method for row in report.together]
        assert {"B: unsteered, the first candidate", "BCR: steered, the best candidate"} <= set(labels)


def spans(container):
    """Return where error bars begin and end, in the direction of each."""
    return [segment.tolist() for bars in container.lines[2] for segment in bars.get_segments()]


def test_points_and_bars_stand_at_their_numbers_with_their_intervals(figures, tmp_path):
    measured, name = comparison(JUDGES).rows, "held_out_share"
    rows = [replace(row, intervals={name: (row.values[name] - 0.02, row.values[name] + 0.3)}) for row in measured]
    together, apart = ([row for row in rows if bool(row.attribute) is single] for single in (False, True))
    plot_methods(together, "held_out_share", tmp_path / "methods.png")
    plot_attributes(apart, "held_out_share", tmp_path / "attributes.png")
    points, bars = (figure.axes[0].containers for figure in figures)
    for drawn, point in zip(together, points, strict=True):
        x, y = drawn.values["perplexity"], 100 * drawn.values["held_out_share"]
        assert point.lines[0].get_xydata().tolist() == [pytest.approx([x, y])]
        low, high = (100 * end for end in drawn.intervals["held_out_share"])
        assert spans(point)[1] == [pytest.approx([x, low]), pytest.approx([x, high])]
    for number, method in enumerate(PAPER_METHODS):
        own, ends = bars[2 * number : 2 * number + 2]
        wanted = [row for row in apart if row.method == method]
        assert [bar.get_height() for bar in own] == pytest.approx(
            [100 * row.values["held_out_share"] for row in wanted]
        )
        middles = [bar.get_x() + bar.get_width() / 2 for bar in own]
        assert middles == pytest.approx([place + 0.2 * (number - 1.5) for place in range(2)])  # around the label
        for drawn, middle, span in zip(wanted, middles, spans(ends), strict=True):
            low, high = (100 * end for end in drawn.intervals["held_out_share"])
            assert span == [pytest.approx([middle, low]), pytest.approx([middle, high])]


def test_a_method_without_a_meaning_for_an_attribute_has_no_bar_there(figures, tmp_path):
    rows = [row("B", 0.1, attribute="a"), row("B", 0.2, attribute="b"), row("WD", 0.3, attribute="a")]
    rows.append(replace(row("WD", float("nan"), attribute="b"), texts=0))
    plot_attributes(rows, "held_out_share", tmp_path / "attributes.png")
    heights = [[bar.get_height() for bar in own] for own in figures[0].axes[0].containers[::2]]
    assert heights == [pytest.approx([10, 20]), pytest.approx([30])]


def test_a_frontier_s_settings_are_numbered_and_named_below_with_intervals(figures, tmp_path):
    found = sweep()
    plot_frontier(found, tmp_path / "frontier.png")
    (figure,) = figures
    title, _ = legend(figure)
    assert title[0] == "1: step_size 0.1"
    numbers = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert numbers == {line.split(":")[0] for line in title[:-1]}
    assert all(len(axes.containers) == len(found.together) for axes in figure.axes)  # an interval for each point


def test_a_frontier_shows_which_settings_are_within_the_budget_and_where_it_ends(figures, tmp_path):
    found = sweep()
    plot_frontier(found, tmp_path / "frontier.png")
    base, *settings = found.together
    limits = {"perplexity": 1.25 * base.values["perplexity"], "repeats": 100 * (base.values["repeats"] + 0.01)}
    for axes, cost in zip(figures[0].axes, found.costs, strict=True):
        (budget,) = [line for line in axes.lines if line.get_label() == "budget"]
        assert budget.get_xdata()[0] == pytest.approx(limits[cost])
        for label, one in (("within the budget", settings[0]), ("beyond it", settings[1])):
            (points,) = [own for own in axes.collections if own.get_label() == label]
            x = one.values[cost] * (100 if cost == "repeats" else 1)
            assert points.get_offsets().tolist() == [pytest.approx([x, 100 * one.values["held_out_share"]])]
