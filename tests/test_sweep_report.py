"""Which settings a sweep finds best, and what its report says of them."""

import pytest
from comparison_reports import ROWS, findings, row, sweep, table_after, texts_of
from hypothesis import given
from hypothesis import strategies as st

from pplm import InputError
from pplm.comparison.budget import BASE, Budget, best_settings, frontier
from pplm.comparison.comparing import setting_name
from pplm.comparison.settings import SweepSettings
from pplm.comparison.sweep_report import Sweep, best_table, plot_frontier, sweep_markdown


def test_a_grid_has_every_combination():
    varied = SweepSettings({"num_iterations": [1, 2], "gamma": [1.5]})
    assert varied.points == [{"num_iterations": 1, "gamma": 1.5}, {"num_iterations": 2, "gamma": 1.5}]
    assert setting_name({"step_size": 0.02, "decay": True}) == "step_size 0.02, decay True"


def test_the_best_setting_shows_most_within_both_budgets():
    (best,) = best_settings(ROWS, "held_out_share", Budget(1.25, 0.01))
    assert best.row.method == "right"
    assert best_settings(ROWS, "held_out_share", Budget(1.3, 0.01))[0].row.method == "strong"
    assert best_settings(ROWS, "held_out_share", Budget(1.25, 0.1))[0].row.method == "loops"
    assert best_settings(ROWS, "held_out_share", Budget(1.0, 0.0))[0].row is None


def test_a_setting_that_shows_no_more_than_unsteered_texts_is_not_the_best():
    rows = [row(BASE, 0.02), row("same", 0.02), row("less", 0.01)]
    assert best_settings(rows, "held_out_share", Budget())[0].row is None


def test_without_a_judge_the_repeats_alone_are_the_budget():
    rows = [row(one.method, one.values["held_out_share"], float("nan"), one.values["repeats"]) for one in ROWS]
    assert best_settings(rows, "held_out_share", Budget())[0].row.method == "strong"


def test_each_attribute_has_a_best_setting_of_its_own():
    rows = [row(BASE, 0, attribute="a"), row("x", 1, attribute="a"), row("y", 2, attribute="a")]
    rows += [row(BASE, 0, attribute="b"), row("x", 2, attribute="b"), row("y", 1, attribute="b")]
    assert [(best.attribute, best.row.method) for best in best_settings(rows, "held_out_share", Budget())] == [
        ("a", "y"),
        ("b", "x"),
    ]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 100)), min_size=1, max_size=12))
def test_the_frontier_holds_what_nothing_beats_and_only_that(points):
    rows = [row(str(number), main, cost) for number, (main, cost) in enumerate(points)]
    kept = {
        (one.values["held_out_share"], one.values["perplexity"])
        for one in frontier(rows, "held_out_share", "perplexity")
    }

    def beaten(point):
        return any(a >= point[0] and b <= point[1] and (a, b) != point for a, b in points)

    assert kept == {point for point in points if not beaten(point)}


@pytest.mark.parametrize(("perplexity", "repeats"), [(0.9, 0.01), (float("nan"), 0.01), (1.2, -0.1), (1.2, 1.1)])
def test_a_budget_that_means_nothing_is_refused(perplexity, repeats):
    with pytest.raises(InputError, match="budget must be"):
        Budget(perplexity, repeats)


def test_a_sweep_s_report_names_the_best_settings_and_shows_their_texts(tmp_path):
    text = sweep_markdown(sweep())
    _, *best = table_after(text, "## Best settings")
    assert [line[:2] for line in best[:2]] == [["all", "unsteered"], ["all", "step_size 0.1"]]
    assert [line[0] for line in best[2:]] == ["space", "space", "legal", "legal"]
    assert "perplexity at most 1.25 times" in text
    _, *lines = table_after(text, "## All settings")
    assert [(line[0], line[-2]) for line in lines] == [
        ("unsteered", ""),
        ("step_size 0.1", "yes"),
        ("step_size 9", "no"),
    ]
    assert [line[-1] for line in lines] == ["", "perplexity, immediate repeats", ""]
    assert len([line for line in text.splitlines() if line.startswith("> **")]) == 3
    plot_frontier(sweep(), tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_the_frontier_is_one_of_settings_and_leaves_out_the_cheaper_unsteered_texts():
    texts = texts_of([BASE, "x", "y"], ["a plain text", "the jury jury in orbit", "a a a a"])
    found = Sweep(**findings(texts, ()), main="held_out_share", budget=Budget(repeats=1.0))
    _, *lines = table_after(sweep_markdown(found), "## All settings")
    assert [(line[0], line[-1]) for line in lines] == [("unsteered", ""), ("x", "immediate repeats"), ("y", "")]


def test_a_sweep_without_a_judge_or_a_best_setting_says_so(tmp_path):
    alone = sweep(judges=())
    assert alone.costs == ["repeats"]
    assert "perplexity" not in sweep_markdown(alone)
    plot_frontier(alone, tmp_path / "frontier.png")
    words = ["a a a a", "a plain text", "a plain text"]
    texts = texts_of([BASE, "x", "y"], words)
    none = Sweep(**findings(texts, (), notes=()), main="held_out_share", budget=Budget())
    assert "none within the budget shows more" in best_table(none)
    assert "## Texts" not in sweep_markdown(none)
