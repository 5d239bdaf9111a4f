"""`pplm evaluate` and `pplm sweep`, small: two prompts, two topics, a few tokens."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_processes import ROOT, TWO

import pplm
from attribute_models import Discriminator
from pplm.cli import main
from pplm.cli.evaluate import _DEFAULTS
from pplm.cli.sweep import parse_vary
from pplm.comparison.rivals import RIVALS

PROMPTS = ["In summary", "The lake"]
KNOWN: dict = {}


def remember(function, model, words):
    key = model.config.name_or_path, tuple(words)
    if key not in KNOWN:
        KNOWN[key] = function(model, words)
    return KNOWN[key]


@pytest.fixture(autouse=True)
def one_model(monkeypatch, embedded):
    """Read the embedded model once, and its view of the bags' long words."""
    import attribute_models.bag_of_words as bags

    complete = bags.completion_probabilities
    monkeypatch.setattr(bags, "completion_probabilities", lambda model, words, *_: remember(complete, model, words))
    load = pplm.load_model
    monkeypatch.setattr(
        "pplm.models.loading.load_model",
        lambda name, **options: embedded if name == "gpt2-mini" else load(name, **options),
    )


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join([*PROMPTS, "", ""]), encoding="utf-8")
    return tmp_path / "prompts.txt"


@pytest.fixture
def run(capsys, tmp_path, prompts):
    """Call a command; return its exit code, stdout, stderr and output folder."""

    def call(command, *arguments, small=True, folder="run"):
        code, output = 0, tmp_path / folder
        usual = ["--output", output]
        if small:
            usual += ["--prompts", prompts, "--new-tokens", 5, "--attributes", "space,legal"]
        try:
            main([command, *map(str, [*usual, *arguments])])
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err, output

    return call


def lines_of(output):
    return [json.loads(line) for line in (output / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- evaluate --------------------------------------------------------------------------------------------------


def test_an_evaluation_writes_texts_tables_a_report_and_pictures(run):
    code, out, err, output = run("evaluate", "--samples", 2)
    assert code == 0, err
    assert {path.name for path in output.iterdir()} == {
        "samples.jsonl", "settings.json", "texts.csv", "metrics.csv", "report.md", "methods.png", "attributes.png",
    }  # fmt: skip
    arms = [line["arm"] for line in lines_of(output)]
    assert arms == ["unsteered"] * 4 + ["steered to space"] * 4 + ["steered to legal"] * 4
    assert [line.split("|")[1].strip() for line in out.splitlines()] == ["method", "---", "B", "BR", "BC", "BCR"]
    report = (output / "report.md").read_text(encoding="utf-8")
    assert out in report
    assert "paper: on topic" in out
    assert "No --judge was given: perplexity is missing." in err
    assert "No --judge was given: perplexity is missing." in report
    assert {row["perplexity"] for row in table(output / "metrics.csv")} == {""}
    assert "\x1b" not in out


def test_b_and_bc_are_the_first_candidates_and_br_and_bcr_the_best_of_the_same(run):
    _, _, _, output = run("evaluate", "--samples", 3, "--min-distinct", 0)
    samples = {(line["arm"], line["prompt_index"], line["sample"]): line for line in lines_of(output)}
    for row in table(output / "texts.csv"):
        arm = f"steered to {row['attribute']}" if "C" in row["method"] else "unsteered"
        pool = [samples[arm, int(row["prompt_index"]), number] for number in range(3)]
        wanted = max(pool, key=lambda line: line["scores"][row["attribute"]]) if "R" in row["method"] else pool[0]
        assert int(row["candidate"]) == wanted["sample"]
        assert row["text"] == wanted["prompt"] + wanted["completion"]


def test_without_reranking_only_the_first_candidate_is_drawn_and_it_is_the_same(run):
    _, _, _, several = run("evaluate", "--samples", 2, folder="several")
    code, out, _, output = run("evaluate", "--methods", "BC, B", folder="first")
    assert code == 0
    first = {(line["arm"], line["prompt_index"]): line["completion"] for line in lines_of(output)}
    assert len(first) == len(lines_of(output)) == 2 * 3
    assert first == {
        (line["arm"], line["prompt_index"]): line["completion"] for line in lines_of(several) if not line["sample"]
    }
    assert [line.split("|")[1].strip() for line in out.splitlines()[2:]] == ["B", "BC"]


def test_rivals_stand_beside_steering_and_their_strength_in_the_settings(run):
    arguments = ["evaluate", "--methods", "PROMPT,WD,B", "--rival-strength", "WD=20"]
    code, out, err, output = run(*arguments)
    assert code == 0, err
    assert [line.split("|")[1].strip() for line in out.splitlines()[2:]] == ["B", "WD", "PROMPT"]
    arms = json.loads((output / "settings.json").read_text(encoding="utf-8"))["settings"]["arms"]
    assert arms["WD to space"] == {"strength": 20.0}
    assert arms["PROMPT to legal"] == {"strength": 1.0, "line": "About legal:"}
    shares = {
        row["method"]: float(row["bag_share"]) for row in table(output / "metrics.csv") if row["attribute"] == "all"
    }
    assert shares["WD"] > 0.5 > shares["B"]
    before = (output / "samples.jsonl").read_bytes()
    assert run(*arguments)[0] == 0
    assert (output / "samples.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "B,FUDGE"], "method FUDGE has no meaning for space, legal: it needs a head"),
        (["--methods", "WD", "--rival-strength", "WD"], "--rival-strength 'WD' must be METHOD=NUMBER, such as WD=5"),
        (["--methods", "WD", "--rival-strength", "WD=x"], "--rival-strength 'WD=x' must be METHOD=NUMBER"),
        (["--methods", "WD", "--rival-strength", "WD=1", "--rival-strength", "WD=2"], "gives WD twice"),
        (["--methods", "B", "--rival-strength", "WD=1"], "there is a strength for WD; of the rivals, methods has none"),
        (["--methods", "WD", "--rival-strength", "WD=-1"], "strength of WD must be a finite number of at least 0"),
    ],
)
def test_rivals_and_strengths_that_cannot_be_used_are_refused_in_one_line(run, arguments, message):
    code, _, err, output = run("evaluate", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not output.exists()


def test_the_help_names_the_strengths_that_are_taken():
    shown = dict(part.split("=") for part in _DEFAULTS.split(", "))
    assert {name: float(value) for name, value in shown.items()} == {
        name: rival.default_strength for name, rival in RIVALS.items()
    }


def test_pools_are_evaluations_with_consecutive_seeds_together(run):
    code, out, err, output = run("evaluate", "--samples", 2, "--pools", 2, "--all-candidates")
    assert code == 0, err
    singles = [run("evaluate", "--samples", 2, "--seed", seed, folder=f"{seed}")[-1] for seed in (0, 1)]
    chosen = [(row["pool"], row["method"], row["attribute"], row["text"]) for row in table(output / "texts.csv")]
    alone = [
        (str(seed), row["method"], row["attribute"], row["text"])
        for seed, folder in enumerate(singles)
        for row in table(folder / "texts.csv")
    ]
    assert sorted(chosen) == sorted(alone)
    assert {row["texts"] for row in table(output / "metrics.csv") if row["attribute"] == "space"} == {"4"}
    assert {row["texts"] for row in table(output / "candidates.csv") if row["attribute"] == "space"} == {"8"}
    report = (output / "report.md").read_text(encoding="utf-8")
    assert "2 candidates per prompt in each of 2 pools" in report
    assert "the texts of each attribute in each pool" in report
    assert out in report
    texts = [
        text.split("## Texts")[1].split("## Settings")[0] for text in (report, (singles[0] / "report.md").read_text())
    ]
    assert texts[0] == texts[1]


def test_without_reranking_pools_are_as_many_texts_a_prompt(run):
    code, _, _, output = run("evaluate", "--methods", "B,BC", "--pools", 2)
    assert code == 0
    assert len(lines_of(output)) == 2 * 2 * 3
    report = (output / "report.md").read_text(encoding="utf-8")
    assert "5 new tokens, 2 texts per prompt;" in report
    assert "candidates per prompt" not in report


def test_a_run_that_is_done_is_told_again_without_generating_and_a_cut_one_goes_on(run, monkeypatch):
    _, out, _, output = run("evaluate", "--samples", 2)
    whole = (output / "samples.jsonl").read_bytes()
    (output / "report.md").unlink()
    import pplm.comparison.pool as pool

    with monkeypatch.context() as patch:
        patch.setattr(pool, "generate", lambda *_, **__: pytest.fail("generated again"))
        assert run("evaluate", "--samples", 2)[:2] == (0, out)
    assert (output / "report.md").is_file()
    (output / "samples.jsonl").write_bytes(whole[: len(whole) // 2])
    code, again, err, _ = run("evaluate", "--samples", 2)
    assert (code, re.sub(r"\d+\.\d+e?", "", again)) == (0, re.sub(r"\d+\.\d+e?", "", out))
    assert "is incomplete" in err

    def texts(content):
        return [{**json.loads(line), "seconds": 0} for line in content.decode().splitlines()]

    assert texts((output / "samples.jsonl").read_bytes()) == texts(whole)


def test_changed_settings_are_one_line_and_exit_code_2(run):
    run("evaluate", "--methods", "B,BC")
    for change, needle in (
        (["--seed", 1], "seed was 0, is 1"),
        (["--step-size", 0.51], r"step_size was [\d.]+, is 0\.51"),
    ):
        assert_one_line(run("evaluate", "--methods", "B,BC", *change), needle)


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
    assert "head other" in (output / "report.md").read_text()
    assert_one_line(run("evaluate", *arguments, "--held-out-head", "sentiment", folder="b"), "is the head that steers")
    assert_one_line(run("evaluate", *arguments, "--held-out-head", "clickbait", folder="b"), "has no label 'positive'")


def test_one_s_own_attributes_come_from_a_json_file_and_files_beside_it(run, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "weather.txt").write_text("rain\nsun\n")
    (folder / "held.txt").write_text("storm\n")
    content = {"weather": {"bag": "weather.txt:2", "held_out": "held.txt", "avoid_bag": ["legal:0.5"]}}
    (folder / "mine.json").write_text(json.dumps(content))
    code, out, err, output = run("evaluate", "--attributes", folder / "mine.json", "--methods", "B,BC")
    assert code == 0, err
    assert "paper" not in out
    settings = json.loads((output / "settings.json").read_text())["settings"]
    assert [(item.get("bag"), item.get("avoid bag"), item["weight"]) for item in settings["attributes"]["weather"]] == [
        ("weather", None, 2.0),
        (None, "legal", 0.5),
    ]
    (folder / "weather.txt").write_text("rain\nsun\nhail\n")
    arguments = ["--attributes", folder / "mine.json", "--methods", "B,BC"]
    assert_one_line(run("evaluate", *arguments), r"attributes\.weather")


BAD = {
    "unknown topic": (["--attributes", "space,cooking"], "space,cooking"),
    "topic twice": (["--attributes", "space,space"], "twice"),
    "topic and sentiment": (["--attributes", "space,positive"], "neither"),
    "missing file": (["--attributes", "nothing.json"], "nothing.json"),
    "unknown method": (["--methods", "B,X"], "unknown method X"),
    "no method": (["--methods", ","], "unknown method"),
    "one candidate": (["--samples", "1"], "samples must be at least 2 for BR and BCR"),
    "no candidate": (["--samples", "0", "--methods", "B"], "samples must be at least 1"),
    "no tokens": (["--new-tokens", "0"], "new_tokens"),
    "too many tokens": (["--new-tokens", "600"], "positions"),
    "no batch": (["--max-batch-size", "0"], "batch_size"),
    "negative seed": (["--seed", "-1"], "seed"),
    "variety": (["--min-distinct", "2"], "min_distinct"),
    "negative step": (["--step-size", "-1"], "step_size"),
    "top-k": (["--top-k", "-1"], "top-k"),
    "threads": (["--threads", "0"], "threads"),
    "missing prompts": (["--prompts", "nothing.txt"], "nothing.txt"),
    "missing judge": (["--judge", "./nothing"], "./nothing"),
    "missing head": (["--held-out-head", "nothing"], "nothing"),
    "missing model": (["--model", "./nothing"], "./nothing"),
}


def assert_one_line(result, needle):
    code, out, err, *_ = result
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ")
    assert re.search(needle, err), err


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(run, case):
    arguments, needle = BAD[case]
    assert_one_line(run("evaluate", *arguments), needle)


def test_an_output_that_is_a_file_is_one_line_and_exit_code_2(run, tmp_path):
    (tmp_path / "run").write_text("")
    assert_one_line(run("evaluate", "--methods", "B"), "is a file")


# --- sweep -----------------------------------------------------------------------------------------------------


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
    assert "There is no picture: with so few words no cost is known." in (output / "report.md").read_text()


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


# --- real processes --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_give_the_same_evaluation_as_one_and_print_it_once(tmp_path, prompts):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    printed, texts = [], []
    for name, launch in (("one", []), ("two", TWO)):
        command = [
            *(sys.executable, *launch, "-m", "pplm", "evaluate", "--attributes", "space,legal"),
            *(
                "--prompts",
                prompts,
                "--samples",
                3,
                "--pools",
                2,
                "--new-tokens",
                8,
                "--max-batch-size",
                3,
                "--device",
                "cpu",
            ),
            *("--output", tmp_path / name),
        ]
        done = subprocess.run(  # noqa: S603
            list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
        texts.append([{**line, "seconds": 0} for line in lines_of(Path(tmp_path / name))])
    assert texts[0] == texts[1]
    assert len(texts[0]) == 3 * 2 * 2 * 3
    assert printed[0] == printed[1]
    report = (tmp_path / "two" / "report.md").read_text()
    assert '"processes": 2' in report
    assert not list((tmp_path / "two").glob("*.part*"))
