"""`pplm train-discriminator` and `pplm classify`, from the command line to the steered text."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_training import sentences, tiny_model, tiny_tokenizer

from attribute_models import Discriminator, LabelledData, TrainingConfig
from pplm import InputError
from pplm.cli import main, train_discriminator

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny-model"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "mood.tsv"
    lines = [f"{label}\t{text}\n" for text, label in zip(*sentences(120), strict=True)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def test_training_classifying_and_steering_from_the_command_line(tmp_path, data, model_folder, capsys):
    folder = tmp_path / "mood"
    assert run("train-discriminator", data, "--model", model_folder, "--output", folder) == 0
    shown = capsys.readouterr().out
    assert "120 texts (bad 60, good 60)" in shown
    assert "features read by the model" in shown
    assert "first 5 tokens" in shown
    assert run("classify", "a very kind staff", "--discriminator", folder, "--model", model_folder) == 0
    assert capsys.readouterr().out.endswith("|  a very kind staff\n")
    steer = ["generate", "the room", "--discriminator", f"{folder}:good", "--max-new-tokens", 2, "--num-samples", 1]
    assert run(*steer, "--model", model_folder) == 0
    assert "[steered 1] the room" in capsys.readouterr().out


def test_labels_that_differ_only_in_case_are_joined_and_reported(tmp_path, model_folder, capsys):
    lines = [f"{label}\t{text}\n" for text, label in zip(*sentences(60), strict=True)]
    (tmp_path / "mood.tsv").write_text("".join([lines[0].replace("bad", "BAD"), *lines[1:]]), encoding="utf-8")
    assert run("train-discriminator", tmp_path / "mood.tsv", "--model", model_folder, "--output", tmp_path / "m") == 0
    assert "labels joined with one that differs only in case or white space: 'BAD' 1" in capsys.readouterr().out


def test_the_last_line_names_the_head_as_discriminator_takes_it_colons_included(tmp_path, model_folder, capsys):
    lines = [f"mood:{label}\t{text}\n" for text, label in zip(*sentences(60), strict=True)]
    (tmp_path / "mood.tsv").write_text("".join(lines), encoding="utf-8")
    assert run("train-discriminator", tmp_path / "mood.tsv", "--model", model_folder, "--output", tmp_path / "h") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"written to {tmp_path / 'h'}; steer with --discriminator {tmp_path / 'h'}:mood:bad"


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_a_table_that_pandas_wrote_is_trained_on_and_scored(tmp_path, model_folder, capsys, index):
    rows = [f"{number},{text},{label}\n" for number, (text, label) in enumerate(zip(*sentences(60), strict=True))]
    (tmp_path / "mood.csv").write_text("".join([f"{index},text,label\n", *rows]), encoding="utf-8")
    assert run("train-discriminator", tmp_path / "mood.csv", "--model", model_folder, "--output", tmp_path / "m") == 0
    assert "60 texts (bad 30, good 30)" in capsys.readouterr().out
    assert run("score", tmp_path / "mood.csv", "--by", "label") == 0
    assert "| bad   | 30 " in capsys.readouterr().out


def test_a_second_training_says_that_it_used_the_cache(tmp_path, data, model_folder, capsys):
    command = ["train-discriminator", data, "--model", model_folder, "--output", tmp_path / "mood"]
    assert run(*command) == run(*command, "--seed", "1") == 0
    assert "features from the cache" in capsys.readouterr().out
    assert run(*command, "--no-cache") == 0
    assert "features read by the model" in capsys.readouterr().out


def test_a_published_head_needs_labels_and_works_with_them(tmp_path, model_folder, capsys):
    torch.save({"mlp.weight": torch.eye(2, 16), "mlp.bias": torch.zeros(2)}, tmp_path / "head.pt")
    command = ["classify", "a view", "--model", model_folder, "--discriminator", tmp_path / "head.pt"]
    assert run(*command) == 2
    assert "2 classes without names" in capsys.readouterr().err
    assert run(*command, "--labels", "dull, very lively") == 0
    (first, high), (second, low) = re.findall(r"(dull|very lively) (0\.\d+)", capsys.readouterr().out)
    assert {first, second} == {"dull", "very lively"}
    assert float(high) > float(low)  # the likeliest first
    steer = ["generate", "the room", "--discriminator", f"{tmp_path / 'head.pt'}:dull", "--labels", "dull,lively"]
    assert run(*steer, "--max-new-tokens", 1, "--num-samples", 1, "--model", model_folder) == 0


def test_every_option_reaches_the_training(tmp_path, data, model_folder, monkeypatch, capsys):
    asked = []

    def train(*_, config, **options):
        asked.append((config, options))
        raise InputError("enough")

    monkeypatch.setattr("attribute_models.train_discriminator", train)
    given = {"validation_fraction": 0.2, "test_fraction": 0.3, "seed": 5, "random_prefixes": 2, "batch_tokens": 64}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = ["train-discriminator", data, "--model", model_folder, "--output", tmp_path / "mood"]
    assert run(*command, *options, "--no-balance", "--citation", "mine", "--cache-dir", tmp_path) == 2
    assert "enough" in capsys.readouterr().err
    ((config, others),) = asked
    assert config == TrainingConfig(**given, balance_classes=False)
    assert (others["name"], others["citation"], others["cache_dir"]) == ("mood", "mine", str(tmp_path))


def test_the_grades_stand_below_their_names():
    grades = SimpleNamespace(accuracy=0.9, macro_f1=0.8, calibration_error=0.1)
    report = SimpleNamespace(
        class_counts={}, folded_labels={}, splits={}, features_from_cache=True, feature_seconds=0.0, fit_seconds=0.0,
        left_out=dict.fromkeys(("duplicates", "empty", "unlabelled", "contradictory"), 0), truncated=0, l2=1.0,
        test={"whole texts": grades}, majority=0.6,
    )  # fmt: skip
    trained = SimpleNamespace(report=report, discriminator=SimpleNamespace(labels=["a"]))
    lines = [*train_discriminator._lines(trained, LabelledData(("x",), np.zeros(1), ("a",)), "head")]
    head, row, most = (line.split() for line in lines[-5:-2])
    assert dict(zip(head[2:], row[2:], strict=True)) == {"accuracy": "0.900", "macro-F1": "0.800", "ECE": "0.100"}
    assert most == ["most", "frequent", "label", "0.600"]


def test_another_model_is_refused_and_any_model_overrides(tmp_path, data, model_folder, capsys):
    folder, other = tmp_path / "mood", tmp_path / "other-model"
    run("train-discriminator", data, "--model", model_folder, "--output", folder)
    tiny_model(seed=1).save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    capsys.readouterr()
    command = ["classify", "a view", "--discriminator", folder, "--model", other]
    assert run(*command) == 2
    message = capsys.readouterr().err
    assert "trained on tiny-model" in message
    assert "this model is other-model" in message
    assert run(*command, "--any-model") == 0


def write(lines):
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "extra", "message"),
    [
        (write(["x\tone", "x\ttwo"]), [], "one class only"),
        (write(["x\tone", "y\ttwo", "z\tthree"]), [], "3 texts under 3 labels"),
        (write(["x\tone", "y\ttwo", "y\tthree", "y\tfour"]), [], "label 'x' has 1 text,"),
        (write(["label\ttext", "x\t", "y\t "]), [], "no usable text"),
        (write(["label\ttext", "x\tone", "y\ttwo"]), ["--text-column", "body"], "no column 'body'"),
        (write(["x\tone", "y\ttwo"]), ["--test-fraction", "2"], "test_fraction must be"),
        (write(["x\tone", "y\ttwo"]), ["--split", "train"], "belong to a hub data set"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, model_folder, capsys, text, extra, message):
    path = tmp_path / "bad.tsv"
    path.write_text(text, encoding="utf-8")
    assert run("train-discriminator", path, "--model", model_folder, "--output", tmp_path / "out", *extra) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_refused_before_any_work(tmp_path, data, capsys):
    assert run("train-discriminator", data, "--output", tmp_path) == 2
    assert "holds other things (mood.tsv)" in capsys.readouterr().err


def test_hidden_states_that_are_not_numbers_are_told_and_nothing_is_written(tmp_path, data, capsys):
    broken = tiny_model()
    broken.transformer.wte.weight.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    tiny_tokenizer().save_pretrained(tmp_path / "broken")
    assert run("train-discriminator", data, "--model", tmp_path / "broken", "--output", tmp_path / "out") == 2
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_two_processes_train_the_same_head_as_one(tmp_path, data, model_folder):
    script = [
        "-m",
        "pplm",
        "train-discriminator",
        data,
        "--model",
        model_folder,
        "--no-cache",
        "--device",
        "cpu",
    ]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--main_process_port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name, start in (("one", []), ("two", launch)):
        command = [sys.executable, *map(str, [*start, *script, "--output", tmp_path / name, "--batch-tokens", "64"])]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)  # noqa: S603
    one, two = Discriminator.load(tmp_path / "one"), Discriminator.load(tmp_path / "two")
    torch.testing.assert_close(one.weight, two.weight, atol=1e-4, rtol=1e-3)
    assert one.card["test"] == two.card["test"]
