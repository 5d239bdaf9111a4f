"""What the reader of a report sees."""

import csv
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pplm import InputError
from pplm.comparison.attributes import Attribute
from pplm.comparison.budget import BASE, Budget, best_settings, frontier
from pplm.comparison.comparing import _remarks, setting_name
from pplm.comparison.measures import MeasuredText, MethodRow, measure_methods, measure_texts
from pplm.comparison.methods import PAPER_METHODS, Chosen
from pplm.comparison.pictures import plot_attributes, plot_methods
from pplm.comparison.report import Comparison, markdown
from pplm.comparison.samples import Sample
from pplm.comparison.settings import ComparisonSettings, SweepSettings
from pplm.comparison.sweep_report import Sweep, best_table, plot_frontier, sweep_markdown
from pplm.comparison.tables import shown, write_metrics, write_texts

PROMPTS = ["So", "In all", "But"]


class Judge:
    name, columns = "a judge", ("nll", "tokens")

    def judge(self, texts):
        return [(3.0 * len(text.completion.split()), float(len(text.completion.split()))) for text in texts]


def texts_of(methods, words, judges=()):
    items = [
        Chosen(method, attribute, Sample("arm", prompt, 0, 0, PROMPTS[prompt], f" {text} {prompt}", 4, 0.5), 0.5)
        for method, text in zip(methods, words, strict=True)
        for attribute in ("space", "legal")
        for prompt in range(3)
    ]
    wanted = {
        "space": Attribute(bag_words={"star"}, held_out_words={"orbit"}),
        "legal": Attribute(bag_words={"law"}, held_out_words={"jury"}),
    }
    return measure_texts(items, wanted, judges)


SETTINGS = {"prompts": PROMPTS, "new_tokens": 4, "samples": 2, "pools": 1, "batch_size": 40, "seed": 0}


JUDGES = (Judge(),)


def comparison(judges=JUDGES, paper="topics", **values):
    words = ["a plain text", "a text of law", "the star in orbit", "the jury in | orbit"]
    texts = texts_of(PAPER_METHODS, words, judges)
    return Comparison(**findings(texts, judges), paper=paper, **values)


def findings(texts, judges, notes=("Mind this.",)):
    return {
        "model": "tiny",
        "rows": measure_methods(texts, replicates=50),
        "texts": texts,
        "judges": [judge.name for judge in judges],
        "notes": notes,
        "settings": SETTINGS,
        "surroundings": {"processes": 1},
    }


def table_after(text, heading):
    """Return the cells of the first table behind a heading."""
    lines = text[text.index(heading) :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    body = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        body.append([cell.strip() for cell in line.strip("|").split("|")])
    return [body[0], *body[2:]]


def test_the_main_table_stands_beside_the_paper_s_numbers():
    head, *rows = table_after(markdown(comparison()), "## All attributes")
    assert [row[0] for row in rows] == list(PAPER_METHODS)
    own = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert own["B"]["paper: on topic"] == "11.1%"
    assert own["BCR"]["paper: perplexity"] == "44.04"
    assert own["BC"]["paper: dist-1/2/3"] == "0.36/0.78/0.92"
    assert own["BC"]["texts with a held-out word"].startswith("50.00% (")
    assert own["B"]["perplexity"].startswith(f"{2.718281828**3:.1f} (")
    assert len({len(row) for row in [head, *rows]}) == 1


def test_sentiment_stands_beside_its_own_table_and_one_s_own_attributes_beside_none():
    assert re.search(r"\| 73.7% +\| 46.6 +\|", markdown(comparison(paper="sentiment")))
    assert "paper:" not in markdown(comparison(paper=None))


def test_the_report_says_how_the_methods_differ_from_b():
    head, *rows = table_after(markdown(comparison()), "Compared with B:")
    assert [row[0] for row in rows] == ["BR", "BC", "BCR"]
    assert {row[head.index("perplexity")] for row in rows} == {"1.00 times (1.00 to 1.00)"}
    assert all(re.fullmatch(r"[+-]\d\.\d{3}", row[head.index("dist-3")]) for row in rows)


def test_all_candidates_have_their_own_section_with_their_number():
    report = comparison()
    words = ["a plain text", "the star in orbit", "a text of law", "an orbit of law"]
    candidates = measure_methods(texts_of(["B", "BC", "B", "BC"], words, JUDGES), replicates=50)
    text = markdown(replace(report, candidates=candidates))
    section = text[text.index("## All candidates") : text.index("## Cost")]
    head, *rows = table_after(section, "## All candidates")
    assert [row[:2] for row in rows] == [["B", "12"], ["BC", "12"]]
    assert not {"dist-1/2/3", "dist-3"} & set(head)  # they fall with the number of texts
    own = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert own["BC"]["texts with a held-out word"].startswith("50.00% (")  # "orbit", for one of the two attributes
    compared = table_after(section, "Compared with B:")
    assert [row[0] for row in compared] == ["method", "BC"]
    apart = section[section.index("| attribute |") :]
    assert [line.split("|")[1].strip() for line in apart.splitlines()[2:6]] == ["space", "space", "legal", "legal"]
    assert "## All candidates" not in markdown(report)


def test_without_a_judge_the_perplexity_column_is_there_and_empty():
    head, *rows = table_after(markdown(comparison(judges=())), "## All attributes")
    assert {row[head.index("perplexity")] for row in rows} == {""}
    assert "There was no judge." in markdown(comparison(judges=()))


def test_notes_settings_judges_and_pictures_are_told():
    text = markdown(comparison(pictures={"methods.png": "A title"}))
    for part in ("- Mind this.", "a judge", '"new_tokens": 4', '"processes": 1', "![A title](methods.png)"):
        assert part in text


def test_texts_that_were_kept_although_they_repeat_themselves_are_counted():
    def one(method, attribute, *, repetitive=False):
        return Chosen(method, attribute, Sample("arm", 0, 0, 0, "So", " so so", 4, 0.5), 0.5, repetitive)

    settings = ComparisonSettings(min_distinct=0.7)
    found = [one("B", "space"), one("BR", "space", repetitive=True), one("BR", "space"), one("BCR", "space")]
    (note,) = _remarks(found, settings)
    assert note.startswith("BR: 1 of 2 texts were kept although all their candidates repeat themselves")
    assert "below 0.7" in note
    several = [*_remarks([one("B", "space"), one("B", "legal")], settings)]
    assert several == ["The unsteered candidates are the same for all attributes; B's texts count once for each."]
    assert [*_remarks([one("BC", "space"), one("BC", "legal")], settings)] == []


def test_each_method_shows_its_first_texts_unselected():
    text = markdown(comparison())
    for method, words in zip(PAPER_METHODS, ["a plain text", "a text of law", "the star", "the jury"], strict=True):
        section = text.split(f"### {method},")[1].split("###")[0]
        quoted = [line for line in section.splitlines() if line.startswith("> ")]
        assert len(quoted) == 5
        assert all(words in line for line in quoted)
        assert [line.split("**")[1] for line in quoted] == ["space", "legal", "space", "legal", "space"]
        assert len(set(quoted)) == 5


def test_every_number_is_in_the_csv_files(tmp_path):
    report = comparison()
    write_metrics(tmp_path / "metrics.csv", report.rows)
    write_texts(tmp_path / "texts.csv", report.texts)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["attribute"]) for row in rows][:5] == [
        *((name, "all") for name in PAPER_METHODS),
        ("B", "space"),
    ]
    assert len(rows) == 4 * 3
    for row, wanted in zip(rows, report.rows, strict=True):
        assert float(row["held_out_share"]) == wanted.values["held_out_share"]
        assert float(row["perplexity_low"]) == wanted.intervals["perplexity"][0]
        assert row["vader"] == row["vader_low"] == ""
    with (tmp_path / "texts.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 2 * 3
    assert lines[0]["text"] == "So a plain text 0"
    assert float(lines[0]["perplexity"]) == pytest.approx(2.718281828**3)
    with pytest.raises(InputError, match="cannot be written"):
        write_metrics(tmp_path, report.rows)


def test_numbers_are_shown_with_their_unit():
    nothing = float("nan")
    assert shown("held_out_share", 0.0123, (0.01, 0.02)) == "1.23% (1.00 to 2.00)"
    assert shown("perplexity", 39.849, (30.0, 50.0)) == "39.8 (30.0 to 50.0)"
    assert shown("dist_1", 0.5) == "0.500"
    assert shown("perplexity", nothing, (nothing, nothing)) == ""


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
    for row, point in zip(together, points, strict=True):
        x, y = row.values["perplexity"], 100 * row.values["held_out_share"]
        assert point.lines[0].get_xydata().tolist() == [pytest.approx([x, y])]
        low, high = (100 * end for end in row.intervals["held_out_share"])
        assert spans(point)[1] == [pytest.approx([x, low]), pytest.approx([x, high])]
    for number, method in enumerate(PAPER_METHODS):
        own, ends = bars[2 * number : 2 * number + 2]
        wanted = [row for row in apart if row.method == method]
        assert [bar.get_height() for bar in own] == pytest.approx(
            [100 * row.values["held_out_share"] for row in wanted]
        )
        middles = [bar.get_x() + bar.get_width() / 2 for bar in own]
        assert middles == pytest.approx([place + 0.2 * (number - 1.5) for place in range(2)])  # around the label
        for row, middle, span in zip(wanted, middles, spans(ends), strict=True):
            low, high = (100 * end for end in row.intervals["held_out_share"])
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


# --- sweeps ----------------------------------------------------------------------------------------------------


def row(method, main, perplexity=30.0, repeats=0.001, attribute=""):
    values = {"held_out_share": main, "perplexity": perplexity, "repeats": repeats, "dist_3": 0.9}
    return MethodRow(method, attribute, 1, values, {})


ROWS = [
    row(BASE, 0.01),
    row("mild", 0.02, 31.0),
    row("right", 0.05, 37.5, 0.011),
    row("strong", 0.20, 38.0),
    row("loops", 0.30, 10.0, 0.1),
]


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


def sweep(judges=JUDGES, budget=None):
    texts = texts_of([BASE, "step_size 0.1", "step_size 9"], ["a plain text", "the jury in orbit", "a a a a"], judges)
    assert isinstance(texts[0], MeasuredText)
    return Sweep(**findings(texts, judges), main="held_out_share", budget=budget or Budget())


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
