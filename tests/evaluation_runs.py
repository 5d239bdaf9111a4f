"""`pplm evaluate` and `pplm sweep`, small: two prompts, two topics, a few tokens."""

import csv
import json
import re

import attribute_models.bag_of_words as bags
import pplm

PROMPTS = ["In summary", "The lake"]
KNOWN: dict = {}


def remember(function, model, words):
    key = model.config.name_or_path, tuple(words)
    if key not in KNOWN:
        KNOWN[key] = function(model, words)
    return KNOWN[key]


def one_model(monkeypatch, embedded):
    """Read the embedded model once, and its view of the bags' long words."""
    complete = bags.completion_probabilities
    monkeypatch.setattr(bags, "completion_probabilities", lambda model, words, *_: remember(complete, model, words))
    load = pplm.load_model
    monkeypatch.setattr(
        "pplm.models.loading.load_model",
        lambda name, **options: embedded if name == "gpt2-mini" else load(name, **options),
    )


def write_prompts(folder):
    """Write the prompts into a file and return its path."""
    (folder / "prompts.txt").write_text("\n".join([*PROMPTS, "", ""]), encoding="utf-8")
    return folder / "prompts.txt"


def small_runs(command, place):
    """Return a function that calls a command of the evaluation: its exit code, stdout, stderr and output folder."""
    prompts = write_prompts(place)

    def call(name, *arguments, folder="run"):
        usual = ["--output", place / folder, "--prompts", prompts, "--new-tokens", 5, "--attributes", "space,legal"]
        return *command(name, *usual, *arguments), place / folder

    return call


def lines_of(output):
    return [json.loads(line) for line in (output / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_one_line(result, needle):
    code, out, err, *_ = result
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ")
    assert re.search(needle, err), err
