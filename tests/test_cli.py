"""The command line, called in the same process; one real process at the end."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

import pplm
from attribute_models import Discriminator
from pplm.cli import main
from pplm.models.resources import data_path

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "The issue focused on"


@pytest.fixture(autouse=True)
def one_model(monkeypatch, embedded):
    """Read the embedded model once: every test here asks for it, and none may change it."""
    load = pplm.load_model

    def load_once(name, **options):
        usual = name == "gpt2-mini" and options == {"device": "auto", "dtype": "float32"}
        return embedded if usual else load(name, **options)

    monkeypatch.setattr("pplm.models.loading.load_model", load_once)


@pytest.fixture
def run(command):
    return partial(command, "generate")


@pytest.fixture
def lines(run, tmp_path):
    """Run with --output and return the objects written."""

    def call(*arguments):
        path = tmp_path / "out.jsonl"
        code, _, err = run(*arguments, "--max-new-tokens", 5, "--output", path, "--overwrite")
        assert code == 0, err
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return call


@pytest.fixture
def head(tmp_path):
    weight = torch.randn(2, 320, generator=torch.Generator().manual_seed(0))
    Discriminator.from_weights(weight, torch.zeros(2), ["bad", "good"]).save(tmp_path / "taste")
    return tmp_path / "taste"


# --- what it prints and writes ---------------------------------------------------------------------------------


def test_one_unsteered_and_three_steered_texts_are_printed_for_each_prompt(run):
    code, out, _ = run(PROMPT, "The lake", "--bag", "space", "--seed", 0, "--max-new-tokens", 5)
    assert code == 0
    heads = [line.split("]")[0] for line in out.splitlines() if line]
    assert heads == ["[unsteered 1", "[steered 1", "[steered 2", "[steered 3"] * 2
    assert out.count(PROMPT) == out.count("The lake") == 4
    assert "\x1b" not in out


def test_every_line_of_the_output_file_is_a_whole_record(lines):
    records = lines(PROMPT, "The lake", "--bag", "space", "--bag", "legal", "--num-samples", 2, "--seed", 3)
    assert len(records) == 2 * (1 + 2)
    for record in records:
        assert {"prompt", "completion", "text", "sample", "seed", "steered", "token_ids"} <= set(record)
        assert {"attributes", "steering"} <= set(record)
        assert record["text"] == record["prompt"] + record["completion"]
        assert record["seed"] == 3
        assert 1 <= len(record["token_ids"]) <= 5
        assert set(record["steering"]) == {field.name for field in fields(pplm.SteeringConfig)}
        names = [attribute["name"] for attribute in record["attributes"]]
        assert names == (["space", "legal"] if record["steered"] else [])
    for prompt in (PROMPT, "The lake"):
        mine = [record for record in records if record["prompt"] == prompt]
        assert sorted((r["steered"], r["sample"]) for r in mine) == [(False, 0), (True, 0), (True, 1)]


def test_the_output_file_is_utf_8_as_it_stands(lines):
    assert lines("Zoë ate a crêpe", "--bag", "kitchen", "--seed", 0)[0]["prompt"] == "Zoë ate a crêpe"


def test_a_discriminator_is_named_by_folder_and_label(lines, head):
    records = lines(PROMPT, "--discriminator", f"{head}:good", "--bag", "space", "--seed", 0, "--num-iterations", 1)
    steered = [record for record in records if record["steered"]]
    assert {(a["name"], a["label"]) for a in steered[0]["attributes"]} == {("space", None), ("taste", "good")}
    assert steered[0]["steering"]["gamma"] == 1.0


def test_no_unsteered_leaves_the_comparison_out(lines):
    assert all(r["steered"] for r in lines(PROMPT, "--bag", "space", "--seed", 0, "--no-unsteered"))


def test_rerank_keeps_the_best_steered_candidate_and_leaves_the_comparison_alone(lines):
    arguments = (PROMPT, "--bag", "space", "--num-samples", 4, "--seed", 3)
    plain = lines(*arguments)
    best = lines(*arguments, "--rerank", 4, "--min-distinct", 0)
    assert best[0]["text"] == plain[0]["text"]
    assert (best[0]["score"], best[0]["rerank"]) == (None, None)
    for one, other in zip(plain[1:], best[1:], strict=True):
        assert other["rerank"] == {"candidates": 4, "min_distinct": 0, "fluency": 0}
        assert (one["text"] == other["text"]) == (other["candidate"] == 0)
        assert other["score"] < 0
    assert any(record["candidate"] for record in best)
    alone = lines(*arguments, "--rerank", 1)
    assert [record["text"] for record in alone] == [record["text"] for record in plain]


def test_fluency_decides_among_the_candidates_where_it_is_asked_for(lines):
    arguments = (PROMPT, "--bag", "space", "--num-samples", 4, "--seed", 3, "--rerank", 4, "--min-distinct", 0)
    plain, fluent = (lines(*arguments, *more)[1:] for more in ((), ("--fluency", 100)))
    assert fluent[0]["rerank"] == {"candidates": 4, "min_distinct": 0, "fluency": 100}
    assert [record["text"] for record in plain] != [record["text"] for record in fluent]
    assert all(a["score"] >= b["score"] for a, b in zip(plain, fluent, strict=True))


@pytest.mark.filterwarnings("ignore:nothing steers:pplm.SteeringWarning")
def test_reranked_texts_that_were_not_moved_still_tell_what_ranked_them(lines):
    records = lines(PROMPT, "--bag", "space", "--seed", 3, "--step-size", 0, "--rerank", 2, "--num-samples", 2)
    assert [record["steered"] for record in records] == [False] * 3
    assert [record["rerank"] is None for record in records] == [True, False, False]
    assert [[a["name"] for a in record["attributes"]] for record in records] == [[], ["space"], ["space"]]


def test_rerank_without_an_attribute_is_one_line_and_exit_code_2(run):
    assert_one_line(run(PROMPT, "--rerank", 3), "rerank needs an attribute")


def test_greedy_writes_one_text_a_prompt(lines):
    records = lines(PROMPT, "--bag", "space", "--greedy")
    assert [record["steered"] for record in records] == [False, True]


def test_a_seed_repeats_every_text_and_another_gives_others(lines):
    arguments = (PROMPT, "--bag", "space", "--unsteered-samples", 2)
    first, again, other = (
        [record["text"] for record in lines(*arguments, "--seed", seed, "--max-batch-size", size)]
        for seed, size in ((0, 5), (0, 1), (1, 5))
    )
    assert first == again
    assert first != other


def test_without_a_seed_the_one_that_was_taken_is_told_on_stderr(run, tmp_path):
    _, out, err = run(PROMPT, "--bag", "space", "--max-new-tokens", 3, "--output", tmp_path / "a")
    seed = json.loads((tmp_path / "a").read_text().splitlines()[0])["seed"]
    assert f"seed {seed}" in err
    assert "seed" not in out


@pytest.mark.filterwarnings("ignore:nothing steers:pplm.SteeringWarning")
def test_unsteered_and_steered_samples_of_a_number_share_their_random_stream(lines):
    records = lines(PROMPT, "--bag", "space", "--seed", 0, "--unsteered-samples", 3, "--step-size", 0)
    unsteered, still = records[:3], records[3:]
    assert [r["text"] for r in unsteered] == [r["text"] for r in still]
    assert len({r["text"] for r in unsteered}) == 3


def test_options_reach_the_decoding(lines):
    likeliest = lines(PROMPT, "--bag", "space", "--greedy", "--no-unsteered")[0]["text"]
    assert lines(PROMPT, "--bag", "space", "--top-k", 1, "--num-samples", 1, "--no-unsteered")[0]["text"] == likeliest
    assert lines(PROMPT, "--bag", "space", "--top-p", 1e-6, "--num-samples", 1)[1]["text"] == likeliest
    assert lines(PROMPT, "--bag", "space", "--temperature", 1e-4, "--num-samples", 1)[1]["text"] == likeliest
    far = lines(PROMPT, "--bag", "space", "--greedy", "--repetition-penalty", 5.0, "--gm-scale", 1, "--step-size", 20)
    assert far[1]["text"] != likeliest
    assert lines(PROMPT, "--bag", "space", "--greedy", "--no-bos")[0]["token_ids"]


VALUES = {
    "step_size": (0.07, []),
    "num_iterations": (2, []),
    "gamma": (1.25, []),
    "kl_scale": (0.5, []),
    "gm_scale": (0.8, []),
    "layers": (2, None),
    "window_length": (3, []),
    "decay": (True, ["--decay"]),
    "horizon_length": (2, []),
    "grad_length": (4, []),
    "steer_every": (2, []),
    "skip_below": (0.5, []),
    "skip_weak": (0.25, []),
    "norm_rule": ("current", []),
}


def test_every_steering_setting_is_an_option_under_its_own_name(lines):
    assert set(VALUES) == {field.name for field in fields(pplm.SteeringConfig)} - {"steps", "strength", "target"}
    arguments = []
    for name, (value, flag) in VALUES.items():
        arguments += flag or [f"--{name.replace('_', '-')}", value]
    record = lines(PROMPT, "--bag", "space", "--greedy", "--no-unsteered", *arguments)[0]
    values = {name: value for name, (value, _) in VALUES.items()}
    assert record["steering"] == {**values, "steps": {}, "strength": None, "target": None}


def test_words_of_several_tokens_are_reported_on_stderr_with_their_number(run, tmp_path):
    (tmp_path / "mine.txt").write_text("moon\nzxqwv\nstar\n")
    code, out, err = run(PROMPT, "--bag", tmp_path / "mine.txt", "--greedy", "--max-new-tokens", 2)
    assert code == 0
    assert "bag mine: 3 words, 1 of them of several tokens" in err
    assert "piece by piece" not in out


def test_help_explains_every_option(run):
    assert run("-h") == run("--help")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in (
        *VALUES,
        "bag",
        "discriminator",
        "model",
        "num_samples",
        "seed",
        "greedy",
        "top_k",
        "output",
        "no_bos",
    ):
        assert f"--{name.replace('_', '-')}" in out
    assert "repeats itself" in out


# --- what the user can put right; options, prompts and files are in the tables of test_bad_input.py --------------


def assert_one_line(result, needle):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert re.search(needle, err), err


def test_bad_discriminators_are_one_line_and_exit_code_2(run, tmp_path, head):
    Discriminator.from_weights(torch.ones(2, 48), torch.zeros(2), ["bad", "good"]).save(tmp_path / "wide")
    for name, needle in {f"{head}:great": "great", f"{head}": "label", f"{tmp_path / 'wide'}:good": "width 48"}.items():
        assert_one_line(run(PROMPT, "--discriminator", name, "--seed", 0, "--no-unsteered"), needle)
    deep = tmp_path / "in" / "folders" / ("of long names" * 9)
    deep.parent.mkdir(parents=True)
    shutil.copytree(head, deep)
    assert_one_line(run(PROMPT, "--discriminator", f"{deep}:great"), "great")
    (head / "head.safetensors").write_bytes(b"broken")
    assert_one_line(run(PROMPT, "--discriminator", f"{head}:good"), "damaged")


def test_an_encoder_decoder_is_one_line_and_exit_code_2(run, tmp_path):
    config = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    run("--help")  # takes away what saving the model has printed
    assert_one_line(run(PROMPT, "--model", tmp_path, "--bag", "space"), "encoder-decoder")


def test_a_hub_id_without_network_is_one_line_and_exit_code_2(run, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert_one_line(run(PROMPT, "--model", "openai-community/gpt2-medium", "--bag", "space"), "network")


def test_an_unknown_command_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["genarate"])
    captured = capsys.readouterr()
    assert_one_line((end.value.code, captured.out, captured.err), "genarate")


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    def broken(*_, **__):
        raise KeyError("a defect")

    monkeypatch.setattr("pplm.jobs.running.generate_unjudged", broken)
    with pytest.raises(KeyError, match="a defect"):
        main(["generate", PROMPT, "--bag", "space"])


def test_the_embedded_weights_are_the_file_s_after_all_that(embedded, run):
    run(PROMPT, "--bag", "space", "--max-new-tokens", 3)
    fresh, _ = pplm.load_model(data_path("gpt2-mini"), device="cpu")
    for (name, one), other in zip(embedded[0].named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert one.grad is None


# --- a real process --------------------------------------------------------------------------------------------


def test_python_m_pplm_is_the_same_command_with_text_on_stdout_alone(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [PROMPT, "--bag", "space", "--seed", "0", "--num-samples", "1", "--max-new-tokens", "5"]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pplm", "generate", *arguments, "--output", tmp_path / "out.jsonl"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split("]")[0] for line in done.stdout.splitlines() if line] == ["[unsteered 1", "[steered 1"]
    assert "Warning" not in done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        ((" ", "--bag", "space"), "prompt"),
        ((PROMPT, "--bag", "space", "--max-new-tokens", 100_000), "positions"),
        ((PROMPT, "--bag", "space", "--seed", -5), "--seed"),
        ((PROMPT, "--bag", "space", "--discriminator", "nothing:good"), "nothing"),
        ((PROMPT, "--bag", "space", "--bag", "nothing"), "nothing"),
    ],
)
def test_an_error_stands_alone_without_a_bag_s_report_or_a_seed_before_it(run, arguments, needle):
    assert_one_line(run(*arguments), needle)


def test_without_an_attribute_the_texts_are_said_to_be_unsteered(run):
    _, out, err = run(PROMPT, "--seed", 0, "--max-new-tokens", 2, "--num-samples", 1)
    assert "no attribute given" in err
    assert "without effect" not in err
    err = run(PROMPT, "--max-new-tokens", 2, "--num-samples", 1, "--strength", 0.4)[2]
    assert "the texts are unsteered, and strength without effect" in err
    assert "[unsteered 1]" in out
