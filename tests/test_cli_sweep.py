"""`pplm sweep`: its texts, its report, what --vary takes, and its refusals."""

import json
import re

import pytest
from evaluation_runs import assert_one_line, lines_of, one_model, small_runs, table

from pplm.cli.sweep import parse_vary


@pytest.fixture
def run(command, monkeypatch, embedded, tmp_path):
    one_model(monkeypatch, embedded)
    return small_runs(command, tmp_path)


def test_a_sweep_draws_b_once_and_every_combination(run):
    code, out, err, output = run("sweep", "--vary", "step_size=.1,0.25", "--vary", "gm-scale=.8,.9", "--samples", 2)
    assert code == 0, err
    arms = list(dict.fromkeys(line["arm"] for line in lines_of(output)))
    assert arms[0] == "unsteered"
    assert arms[1:3] == [f"steered to {name}, step_size 0.1, gm_scale 0.8" for name in ("space", "legal")]
    assert len(arms) == 1 + 4 * 2
    assert len(lines_of(output)) == len(arms) * 2 * 2
    settings = json.loads((output / "settings.json").read_text())["settings"]["arms"]
    assert settings["steered to legal, step_size 0.25, gm_scale 0.9"]["step_size"] == 0.25
    assert settings["steered to legal, step_size 0.25, gm_scale 0.9"]["num_iterations"] == 1
    assert "Steered with preset fast." in (output / "report.md").read_text()
    assert re.match(r"\| attribute \| best settings +\|", out)
    report = (output / "report.md").read_text()
    assert out in report
    assert "frontier.png" in report
    assert (output / "frontier.png").is_file()
    assert len(table(output / "metrics.csv")) == 5 * 3


def test_a_sweep_s_unsteered_and_steered_texts_are_those_of_an_evaluation(run):
    _, _, _, one = run("evaluate", "--methods", "B,BC", "--step-size", 0.25, folder="one")
    _, _, _, other = run("sweep", "--vary", "step_size=0.25", folder="other")
    assert [line["completion"] for line in lines_of(one)] == [line["completion"] for line in lines_of(other)]


def test_a_sweep_of_texts_too_short_to_cost_anything_has_a_report_without_a_picture(run):
    code, _, err, output = run("sweep", "--vary", "step_size=.1,.25", "--new-tokens", 1, "--samples", 6)
    assert code == 0, err
    assert not (output / "frontier.png").exists()
    assert "There is no picture: the texts have too few words to measure a cost." in (output / "report.md").read_text()


def test_vary_reads_values_of_the_setting_s_own_type():
    assert parse_vary(["step_size=.01, 1", "num-iterations=1,3", "decay=true,false", "norm_rule=current"]) == {
        "step_size": [0.01, 1.0],
        "num_iterations": [1, 3],
        "decay": [True, False],
        "norm_rule": ["current"],
    }


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--vary", "stepsize=1"], "no setting 'stepsize'"),
        (["--vary", "step_size=far"], "values must be numbers; got 'far'"),
        (["--vary", "step_size="], "values must be numbers"),
        (["--vary", "num_iterations=1.5"], "values must be whole numbers"),
        (["--vary", "decay=maybe"], "true or false"),
        (["--vary", "step_size=1,1.0"], "a value twice"),
        (["--vary", "step_size=1", "--vary", "step-size=2"], "step_size twice"),
        (["--vary", "gm_scale=0.5,1.5"], "gm_scale"),
        (["--vary", "norm_rule=largest"], "norm_rule"),
        (["--vary", "step_size=1", "--budget", "0.5"], "budget"),
        (["--vary", "step_size=1", "--repeat-budget", "-1"], "repeat_budget"),
        (["--vary", "step_size=1", "--samples", "0"], "samples"),
        ([], "--vary"),
    ],
)
def test_a_bad_sweep_is_one_line_and_exit_code_2(run, arguments, needle):
    assert_one_line(run("sweep", *arguments), needle)


def test_a_sweep_that_nothing_could_judge_is_refused_before_it_starts(run, tmp_path):
    (tmp_path / "mine.json").write_text('{"praise": {"discriminator": "sentiment:positive"}}')
    result = run("sweep", "--vary", "step_size=1", "--attributes", tmp_path / "mine.json")
    assert_one_line(result, "nothing measures all of praise")
    assert not result[-1].exists()
