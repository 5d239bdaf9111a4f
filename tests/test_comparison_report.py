"""What the reader of a report sees."""

import csv
import re
from dataclasses import replace

import pytest
from comparison_reports import JUDGES, comparison, table_after, texts_of

from pplm import InputError
from pplm.comparison.comparing import _remarks
from pplm.comparison.measures import measure_methods
from pplm.comparison.methods import PAPER_METHODS, Chosen
from pplm.comparison.report import markdown
from pplm.comparison.samples import Sample
from pplm.comparison.settings import ComparisonSettings
from pplm.comparison.tables import shown, write_metrics, write_texts


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
