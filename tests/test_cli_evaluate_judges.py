"""`pplm evaluate` with judges, and with measures of all candidates."""

import json
import re

import pytest
import torch
from evaluation_runs import assert_one_line, lines_of, one_model, small_runs, table

from attribute_models import Discriminator
from pplm import InputError
from pplm.evaluation.similarity_judge import attribute_descriptions


@pytest.fixture
def run(command, monkeypatch, embedded, tmp_path):
    one_model(monkeypatch, embedded)
    return small_runs(command, tmp_path)


@pytest.fixture
def judge(tmp_path, gpt2, tokenizer):
    gpt2.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    return tmp_path / "judge"


def test_a_judge_fills_the_perplexity_column_without_generating_again(run, judge):
    run("evaluate", "--methods", "B,BC")
    code, _, err, output = run("evaluate", "--methods", "B,BC", "--judge", judge)
    assert (code, "No --judge" in err) == (0, False)
    assert all(float(row["perplexity"]) > 1 for row in table(output / "metrics.csv"))
    assert "Judges: judge." in (output / "report.md").read_text()
    assert re.search(r"\| BC +\|.* times \(", (output / "report.md").read_text())


def test_the_steered_model_judges_itself_only_if_the_user_insists(run):
    assert_one_line(run("evaluate", "--judge", "gpt2-mini"), "is the steered model itself")
    code, _, err, output = run("evaluate", "--methods", "B,BC", "--judge", "gpt2-mini", "--insist-judge")
    assert code == 0
    assert "is the steered model itself" in err
    assert "is the steered model itself" in (output / "report.md").read_text()


def test_sentiment_is_judged_by_vader_and_by_a_held_out_head(run, tmp_path):
    pytest.importorskip("vaderSentiment")
    weight = torch.randn(2, 320, generator=torch.Generator().manual_seed(0)) / 320**0.5  # sure of nothing
    Discriminator.from_weights(weight, torch.zeros(2), ["positive", "negative"]).save(tmp_path / "other")
    arguments = ["--attributes", "sentiment", "--methods", "B,BC", "--num-iterations", 1, "--new-tokens", 4]
    code, out, err, output = run("evaluate", *arguments, "--held-out-head", tmp_path / "other")
    assert code == 0, err
    assert "paper: right sentiment" in out
    rows = table(output / "metrics.csv")
    assert all(0 <= float(row["right"]) <= 1 and 0 < float(row["head"]) < 1 for row in rows)
    assert all(row["held_out_share"] == "" for row in rows)
    plain = {row["attribute"]: float(row["head"]) for row in rows if row["method"] == "B"}
    assert plain["positive"] + plain["negative"] == pytest.approx(1)  # of the same texts, each its own class
    assert "head other" in (output / "report.md").read_text()
    assert_one_line(run("evaluate", *arguments, "--held-out-head", "sentiment", folder="b"), "is the head that steers")
    assert_one_line(run("evaluate", *arguments, "--held-out-head", "clickbait", folder="b"), "has no label 'positive'")


def test_similarity_is_to_one_s_own_description_where_there_is_one(run, tmp_path, monkeypatch):
    asked = []

    def load(**options):
        asked.append(options["descriptions"])
        raise InputError("enough")

    monkeypatch.setattr("pplm.evaluation.SimilarityJudge.load", load)
    (tmp_path / "words.txt").write_text("rain\n")
    own = {"space": {"bag": "words.txt", "description": "rain and wind"}, "legal": {"bag": "words.txt"}}
    (tmp_path / "mine.json").write_text(json.dumps(own))
    assert_one_line(run("evaluate", "--attributes", tmp_path / "mine.json", "--similarity"), "enough")
    assert asked == [{**attribute_descriptions(), "space": "rain and wind"}]


def test_all_candidates_are_measured_beside_the_chosen_ones_if_asked(run, judge):
    code, _, err, output = run("evaluate", "--methods", "B,BC", "--samples", 2, "--all-candidates", "--judge", judge)
    assert code == 0, err
    assert len(lines_of(output)) == 2 * 2 * 3  # also without reranking
    rows = table(output / "candidates.csv")
    assert [(row["method"], row["attribute"], row["texts"]) for row in rows] == [
        (method, attribute, texts)
        for attribute, texts in (("all", "8"), ("space", "4"), ("legal", "4"))
        for method in ("B", "BC")
    ]
    first = {(row["method"], row["attribute"]): row for row in table(output / "metrics.csv")}
    assert first["B", "all"]["texts"] == "4"
    assert first["B", "all"]["perplexity"] != rows[0]["perplexity"]  # one candidate of two is not both
    report = (output / "report.md").read_text()
    assert report.index("## Each attribute") < report.index("## All candidates") < report.index("## Cost")


def test_candidates_of_an_earlier_call_do_not_stay_beside_newer_numbers(run):
    usual = ["--samples", 2, "--methods", "BR,BCR"]
    _, _, _, output = run("evaluate", *usual, "--all-candidates")
    assert [row["method"] for row in table(output / "candidates.csv")] == ["B", "BC"] * 3
    run("evaluate", *usual)
    assert not (output / "candidates.csv").exists()
    assert "## All candidates" not in (output / "report.md").read_text()


def test_all_candidates_are_more_than_one(run):
    assert_one_line(
        run("evaluate", "--methods", "B", "--samples", 1, "--all-candidates"), "at least 2 for all_candidates; got 1"
    )
