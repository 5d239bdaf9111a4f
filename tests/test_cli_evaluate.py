"""`pplm evaluate`: its files, methods, rivals, pools and attributes, runs that go on, and its refusals."""

import json
import re

import pytest
from evaluation_runs import assert_one_line, lines_of, one_model, small_runs, table

from pplm.comparison.rivals import RIVALS


@pytest.fixture
def run(command, monkeypatch, embedded, tmp_path):
    one_model(monkeypatch, embedded)
    return small_runs(command, tmp_path)


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
        wanted = (
            max(pool, key=lambda line: line["scores"][row["attribute"]]["attributes"])
            if "R" in row["method"]
            else pool[0]
        )
        assert int(row["candidate"]) == wanted["sample"]
        assert row["text"] == wanted["prompt"] + wanted["completion"]


def test_the_best_candidate_is_the_most_fluent_where_that_counts_most(run):
    _, _, _, output = run("evaluate", "--samples", 3, "--min-distinct", 0, "--fluency", 1000)
    samples = {(line["arm"], line["prompt_index"], line["sample"]): line for line in lines_of(output)}
    best = [row for row in table(output / "texts.csv") if "R" in row["method"]]
    assert {row["candidate"] for row in best} != {"0"}
    for row in best:
        arm = f"steered to {row['attribute']}" if "C" in row["method"] else "unsteered"
        pool = [samples[arm, int(row["prompt_index"]), number] for number in range(3)]
        scores = [line["scores"][row["attribute"]] for line in pool]
        assert int(row["candidate"]) == max(range(3), key=lambda number: scores[number]["fluency"])
    assert "- In the choice of the best candidate, fluency has a weight of 1000." in (output / "report.md").read_text()


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
    arguments = ["evaluate", "--methods", "PROMPT,WD,B", "--rival-strength", "WD=20", "--top-k", 20,
                 "--max-batch-size", 3]  # fmt: skip
    code, out, err, output = run(*arguments)
    assert code == 0, err
    assert [line.split("|")[1].strip() for line in out.splitlines()[2:]] == ["B", "WD", "PROMPT"]
    settings = json.loads((output / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["sampling"], settings["batch_size"]) == ({"top_k": 20}, 3)
    arms = settings["arms"]
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
        (["--methods", "B", "--rival-strength", "WD=1"], "strengths has WD, which is not among the rivals in methods"),
        (["--methods", "WD", "--rival-strength", "WD=-1"], "strength of WD must be a finite number of at least 0"),
    ],
)
def test_rivals_and_strengths_that_cannot_be_used_are_refused_in_one_line(run, arguments, message):
    code, _, err, output = run("evaluate", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not output.exists()


def test_the_help_names_the_strengths_that_are_taken(command):
    _, out, _ = command("evaluate", "--help")
    defaults = re.search(r"\[default: (WD=[^]]+)\]", " ".join(out.split()))[1]
    shown = dict(part.split("=") for part in defaults.split(", "))
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
    (folder / "held.txt").unlink()
    assert_one_line(
        run("evaluate", *arguments), "attribute 'weather': held_out: bag of words 'held.txt' is neither a file"
    )
    (folder / "weather.txt").unlink()
    assert_one_line(run("evaluate", *arguments), "attribute 'weather': bag of words 'weather.txt' is neither a file")


BAD = {
    "unknown topic": (["--attributes", "space,cooking"], "space,cooking"),
    "topic twice": (["--attributes", "space,space"], "twice"),
    "topic and sentiment": (["--attributes", "space,positive"], "neither"),
    "missing file": (["--attributes", "nothing.json"], "nothing.json"),
    "unknown method": (["--methods", "B,X"], "unknown method X"),
    "no method": (["--methods", ","], "unknown method"),
    "one candidate": (["--samples", "1"], "samples must be at least 2 for BR and BCR"),
    "no candidate": (["--samples", "0", "--methods", "B"], "samples must be a whole number of at least 1; got 0"),
    "no tokens": (["--new-tokens", "0"], "new_tokens"),
    "too many tokens": (["--new-tokens", "600"], "positions"),
    "no batch": (["--max-batch-size", "0"], "batch_size"),
    "negative seed": (["--seed", "-1"], "seed"),
    "variety": (["--min-distinct", "2"], "min_distinct"),
    "fluency": (["--fluency", "-1"], "fluency must be finite and at least 0; got -1"),
    "fluency without a choice": (["--fluency", "1", "--methods", "B,BC"], "fluency 1 is for BR and BCR"),
    "negative step": (["--step-size", "-1"], "step_size"),
    "top-k": (["--top-k", "-1"], "top-k"),
    "threads": (["--threads", "0"], "threads"),
    "missing prompts": (["--prompts", "nothing.txt"], "nothing.txt"),
    "missing judge": (["--judge", "./nothing"], "./nothing"),
    "missing head": (["--held-out-head", "nothing"], "nothing"),
    "missing model": (["--model", "./nothing"], "./nothing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(run, case):
    arguments, needle = BAD[case]
    assert_one_line(run("evaluate", *arguments), needle)


def test_an_output_that_is_a_file_is_one_line_and_exit_code_2(run, tmp_path):
    (tmp_path / "run").write_text("")
    assert_one_line(run("evaluate", "--methods", "B"), "is a file")
