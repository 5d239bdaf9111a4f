"""`pplm train-base`, called in the same process."""

import re
import shlex
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from tiny_pretraining import SHAPE, settings, write_corpus

from pplm import InputError
from pplm.cli import train_base as command
from pplm.pretraining import Architecture, BaseModelReport, StepReport, TrainingSettings
from pplm.pretraining.validation import Validation

TINY = [
    part
    for values in (vars(settings(steps=3)), vars(SHAPE))
    for name, value in values.items()
    if value is not None
    for part in (f"--{name.replace('_', '-')}", str(value))
]


@pytest.fixture
def run(command):
    return partial(command, "train-base")


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Take down what the library is asked for, and train nothing."""
    calls = []

    def train(request, output, **options):
        calls.append((request, options))
        return BaseModelReport(tmp_path, Validation(1.0, 1.0, 1, 1), [], "float32")

    monkeypatch.setattr("pplm.pretraining.train_base_model", train)
    return calls


def test_texts_become_a_model_and_the_result_stands_on_stdout(run, tmp_path):
    source, output = write_corpus(tmp_path), tmp_path / "model"
    code, out, err = run(source, "--output", output, *TINY)
    assert (code, err) == (0, "")
    assert re.fullmatch(
        rf"written to {output}: \d\.\d+ nats per token, perplexity \d+\.\d, \d\.\d+ bits per character on [\d,]+ "
        r"characters of validation text\n",
        out,
    )
    card = (output / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"\npplm train-base {source} --output {output} --steps 3 " in card
    assert run(source, "--output", output, *TINY, "--resume")[:2] == (0, out)
    assert run(source, "--output", output, *TINY)[0] == 2
    assert "--resume" not in (output / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_without_a_budget_it_is_the_embedded_model_s(run, asked):
    assert run("a.txt", "--output", "x")[0] == 0
    request, options = asked[0]
    assert options["settings"] == TrainingSettings(minutes=98)
    assert options["architecture"] == Architecture()
    assert (request.sources, request.validation, request.split) == (("a.txt",), (), "train")
    run("a.txt", "--output", "x", "--steps", 5)
    assert (asked[1][1]["settings"].steps, asked[1][1]["settings"].minutes) == (5, None)


def test_every_option_reaches_the_library(run, asked):
    code, _, err = run(
        "a.txt", "b/c", "--output", "x", "--validation", "v.txt", "--validation", "w.txt", "--text-column", "body",
        "--config", "de", "--split", "train[:1%]", "--tokenizer", "t", "--embeddings-from", "e", "--resume",
        "--muon-lr", 0.5, "--num-layers", 3, "--precision", "bfloat16", "--seed", 7, "--minutes", 1.5,
    )  # fmt: skip
    assert code == 0, err
    request, options = asked[0]
    assert (request.sources, request.validation) == (("a.txt", "b/c"), ("v.txt", "w.txt"))
    assert (request.text_column, request.config, request.split) == ("body", "de", "train[:1%]")
    assert (request.tokenizer, request.embeddings_from, request.init) == ("t", "e", None)
    assert request.command.startswith("pplm train-base a.txt b/c --output x --validation v.txt")
    assert "'train[:1%]'" in request.command
    assert options["settings"] == TrainingSettings(minutes=1.5, muon_lr=0.5, precision="bfloat16", seed=7)
    assert options["architecture"] == Architecture(num_layers=3)
    assert options["resume"]
    run("a.txt", "--output", "x", "--init", "m")
    assert (asked[1][0].init, asked[1][1]["architecture"]) == ("m", None)


TUTORIAL = (Path(__file__).resolve().parent.parent / "docs" / "base_model.md").read_text(encoding="utf-8")


def test_the_tutorial_s_commands_are_understood(run, asked):
    lines = re.findall(r"pplm train-base [^`\n]*", TUTORIAL)
    assert len(lines) >= 4
    for line in lines:
        code, _, err = run(*shlex.split(line)[2:])
        assert code == 0, f"{line}: {err}"
    assert len(asked) == len(lines)


def test_help_names_every_setting_with_its_default(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run("--help")
    text = " ".join(out.split())
    for field in [*fields(TrainingSettings), *fields(Architecture)]:
        assert f"--{field.name.replace('_', '-')} " in text
        assert " ".join(field.metadata["help"].split()) in text
    assert "[default: 0.02]" in text
    assert "[default: 12288]" in text


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        ([], "SOURCES"),
        (["no.txt"], "text file no.txt does not exist"),
        (["{text}", "--steps", "1", "--minutes", "1"], "either minutes or steps"),
        (["{text}", "--plateau", "2"], "plateau must be finite and between 0 and 1; got 2.0"),
        (["{text}", "--steps", "1.5"], "--steps"),
        (["{text}", "--precision", "float16"], "--precision"),
        (["{text}", "--vocab-size", "50000"], "vocab_size is 50000, but this corpus yields"),
        (["{text}", "--init", "gpt2-mini", "--width", "64"], "--init gpt2-mini has its own width; leave out --width"),
        (["{text}", "--tokenizer", "gpt2-mini", "--vocab-size", "300"], "leave out --vocab-size"),
        (["{text}", "--init", "gpt2-mini", "--tokenizer", "t"], r"leave out tokenizer \(t\)"),
        (["{text}", "--resume"], "holds no run to resume"),
        (["{text}", "--num-positions", "100", "--block-length", "30"], "block_length must divide"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(run, tmp_path, arguments, needle):
    source = write_corpus(tmp_path)
    code, out, err = run(*(a.format(text=source) for a in arguments), "--output", tmp_path / "model")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ")
    assert re.search(needle, err), err
    assert not (tmp_path / "model").exists()


def test_an_interrupt_says_how_to_go_on(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pplm.pretraining.train_base_model", interrupted)
    code, out, err = run("a.txt", "--output", "x")
    assert (code, out) == (130, "")
    assert "repeat the command with --resume to go on" in err


def test_of_several_processes_only_the_first_one_tells_an_error(run, monkeypatch):
    def refuse(*_, **__):
        raise InputError("wrong")

    monkeypatch.setattr("pplm.pretraining.train_base_model", refuse)
    monkeypatch.setenv("RANK", "1")
    assert run("a.txt", "--output", "x") == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    assert run("a.txt", "--output", "x") == (2, "", "Error: wrong\n")


def reports(*losses, seconds=2.0, tokens=100, total=8):
    return [
        StepReport(number, tokens * number, seconds * number, loss, 1.0, number / total)
        for number, loss in enumerate(losses, 1)
    ]


def test_the_progress_bar_shows_the_mean_loss_the_speed_and_the_time_left():
    recipe = TrainingSettings(steps=8, tokens_per_step=100, late_tokens_per_step=200)
    # 50 tokens a second: 2 steps of 100 and 4 of 200 take 20 s.
    assert command._state(recipe, reports(3.0, 2.0)) == "step 2, loss 2.500, 50 tokens/s, 0:00:20 left"
    assert command._state(recipe, reports(3.0)) == "step 1, loss 3.000"
    last = reports(*[1.0] * 8)
    assert command._state(recipe, last).endswith("50 tokens/s, 0:00:00 left")
    assert command._state(TrainingSettings(minutes=120), reports(3.0, 2.0)).endswith("1:30:00 left")
