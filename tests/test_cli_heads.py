"""How --discriminator finds path, label and weight where paths and labels hold colons themselves."""

import json

import pytest
import torch

from attribute_models import Discriminator


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path, gpt2, tokenizer):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: (gpt2, tokenizer))
    monkeypatch.chdir(tmp_path)
    for name, labels in {
        "h": ["mood:bad", "mood", "1", "good"],
        "C:\\models\\h": ["1", "2"],
        "h:mood": ["bad", "0.5"],
    }.items():
        count = len(labels)
        weight = torch.randn(count, 32, generator=torch.Generator().manual_seed(0))
        Discriminator.from_weights(weight, torch.zeros(count), labels).save(tmp_path / name)


@pytest.fixture
def steer(command, tmp_path):
    """Call the command with a head; return the head, label and weight that were used, or the error."""

    def call(text):
        output = tmp_path / "out.jsonl"
        output.unlink(missing_ok=True)
        settings = ("--greedy", "--no-unsteered", "--max-new-tokens", 1, "--num-iterations", 1, "--output", output)
        code, _, err = command("generate", "the", "--discriminator", text, *settings)
        if code:
            return code, err
        (used,) = json.loads(output.read_text())["attributes"]
        return used["name"], used["label"], used["weight"]

    return call


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("h:good", ("h", "good", 1.0)),
        ("h:good:0.5", ("h", "good", 0.5)),
        ("h:1", ("h", "1", 1.0)),
        ("h:1:2", ("h", "1", 2.0)),
        ("h:mood", ("h", "mood", 1.0)),
        ("h:mood:2", ("h", "mood", 2.0)),
        ("h:mood:bad", ("h:mood", "bad", 1.0)),
        ("h:mood:bad:3", ("h:mood", "bad", 3.0)),
        ("h:mood:0.5", ("h:mood", "0.5", 1.0)),
        ("./h:mood:bad:3", ("h:mood", "bad", 3.0)),
        ("C:\\models\\h:1", ("C:\\models\\h", "1", 1.0)),
        ("C:\\models\\h:1:0.5", ("C:\\models\\h", "1", 0.5)),
    ],
)
def test_path_label_and_weight_are_told_apart_by_what_exists(steer, text, used):
    assert steer(text) == used


def test_a_label_with_a_colon_is_taken(steer, tmp_path):
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    Discriminator.from_weights(weight, torch.zeros(2), ["mood:bad", "mood:good"]).save(tmp_path / "moods")
    assert steer("moods:mood:bad") == ("moods", "mood:bad", 1.0)
    assert steer("moods:mood:bad:0.25") == ("moods", "mood:bad", 0.25)


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("h", "'h' names no label of a head; write PATH:LABEL[:WEIGHT] (labels: mood:bad, mood, 1, good)"),
        ("h:", "'h:' names no label of a head; write PATH:LABEL[:WEIGHT] (labels: mood:bad, mood, 1, good)"),
        ("h:great", "'h:great' names no label of a head; write PATH:LABEL[:WEIGHT] (labels: mood:bad, mood, 1, good)"),
        ("h:good:heavy", "the weight in 'h:good:heavy' must be a number of at least 0; got 'heavy'"),
        ("h:good:-1", "the weight in 'h:good:-1' must be a number of at least 0; got '-1'"),
        ("nothing", "discriminator 'nothing' names no label of a head; write PATH:LABEL"),
        ("nothing:good", "discriminator 'nothing' is neither a folder nor a shipped one"),
        (":good", "discriminator ':good' names no label of a head; write PATH:LABEL"),
    ],
)
def test_what_names_no_head_label_or_weight_is_one_line_and_exit_code_2(steer, text, needle):
    code, err = steer(text)
    assert code == 2
    assert err.startswith("Error: ")
    assert len(err.splitlines()) == 1
    assert needle in err
