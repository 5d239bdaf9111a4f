"""`pplm generate --prompts-file`: rows with settings of their own."""

import json
import re
from functools import partial

import pytest

import pplm

OPTIONS = ["--num-samples", 2, "--max-new-tokens", 4, "--max-batch-size", 4, "--device", "cpu"]


@pytest.fixture
def run(command, chat_model):
    return partial(command, "generate", "--model", "tiny", *OPTIONS)


def test_rows_set_seed_attributes_and_steering_for_themselves_as_if_they_were_alone(run, tmp_path):
    sky, sea, cat = (tmp_path / f"{name}.txt" for name in ("sky", "sea", "cat"))
    for path, words in ((sky, "moon\nstar\n"), (sea, "sea\n"), (cat, "cat\n")):
        path.write_text(words)
    rows = [{"prompt": "The sea"}, {"prompt": "A star", "seed": 7}, {"prompt": "The sun", "bag": f"{sea}|{cat}:0.5"},
            {"prompt": "moon", "strength": "0.8", "seed": ""}]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"seed": None, "bag": None, "strength": None, **row}) + "\n"
                                              for row in rows))  # fmt: skip
    ask = ["--bag", sky, "--seed", 1, "--prompts-file", tmp_path / "a.jsonl"]
    code, out, err = run(*ask, "--allow-files", "--use-columns", "seed,bag,strength")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert "steering: what each row's attributes take (columns bag, strength)\n" in err
    assert [line["seed"] for line in lines[::3]] == [1, 7, 1, 1]
    assert set(lines[7]["attribute_losses"]) == {"sea", "cat"}
    (tmp_path / "b.txt").write_text("x\nA star\nx\nmoon\n")
    alone = ["--prompts-file", tmp_path / "b.txt"]
    for number, options in ((1, ["--bag", sky, "--seed", 7]),
                            (3, ["--bag", sky, "--seed", 1, "--strength", 0.8])):  # fmt: skip
        found = [json.loads(line) for line in run(*alone, *options)[1].splitlines()]
        assert [line["text"] for line in found[3 * number :][:3]] == [line["text"] for line in lines[3 * number :][:3]]
    _, out, err = run(*ask)
    assert "columns copied through, not used as settings: seed, bag, strength" in err
    assert json.loads(out.splitlines()[3])["input_seed"] == 7


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("bag", "{words}", "which is not shipped; add --allow-files"),
        ("discriminator", "./mine:good", "which is not shipped; add --allow-files"),
        ("discriminator", "sentiment:positive", "which is not shipped; add --allow-files"),  # a folder of that name
        ("seed", "-1", "column 'seed' must be a whole number of at least 0; got -1"),
        ("gm_scale", "2", "gm_scale must be finite and between 0 and 1"),
        ("norm_rule", "largest", "norm_rule must be one of"),
        ("decay", "perhaps", "column 'decay' must be true or false; got 'perhaps'"),
        ("seed", "soon", "column 'seed' must be a number; got 'soon'"),
    ],
)
def test_a_row_s_setting_that_cannot_be_used_makes_that_prompt_fail(run, tmp_path, monkeypatch, column, cell, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentiment").mkdir()
    words = tmp_path / "words.txt"
    words.write_text("moon\n")
    (tmp_path / "a.tsv").write_text(f"prompt\t{column}\nThe sea\t\nmoon\t{cell.format(words=words)}\n")
    ask = ["--prompts-file", tmp_path / "a.tsv", "--use-columns", column, "--seed", 0, "--bag", words]
    code, out, _ = run(*ask)
    assert code == 1
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 4
    assert message in lines[-1]["error"]
    if column == "bag":
        assert run(*ask, "--allow-files")[0] == 0


def texts(out):
    return [json.loads(line).get("text") for line in out.splitlines()]


def test_a_row_s_step_size_takes_the_place_of_the_command_s_strength_and_back(run, tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nstar\n")
    (tmp_path / "a.csv").write_text("prompt,strength,step_size\nThe sea,,0.2\nThe sea,0.7,\nThe sea,0.7,0.2\n")
    (tmp_path / "b.txt").write_text("The sea\n" * 2)
    steered = ["--bag", tmp_path / "sky.txt", "--seed", 1, "--no-unsteered"]
    wanted = [texts(run(*steered, "--prompts-file", tmp_path / "b.txt", *own)[1])
              for own in (("--step-size", 0.2), ("--strength", 0.7))]  # fmt: skip
    for own in (("--strength", 0.3), ("--step-size", 0.1)):
        ask = ["--prompts-file", tmp_path / "a.csv", "--use-columns", "strength,step_size"]
        code, out, err = run(*steered, *own, *ask)
        assert code == 1
        assert re.search(r"^steering: .*; rows may change strength, step_size$", err, re.M)
        assert texts(out)[:4] == wanted[0][:2] + wanted[1][2:]
        assert "strength takes the place of step_size" in json.loads(out.splitlines()[4])["error"]


def test_json_rows_take_lists_objects_and_whole_numbers_that_pandas_made_fractions(run, tmp_path):
    sky, sea = tmp_path / "sky.txt", tmp_path / "sea.txt"
    sky.write_text("moon\nstar\n")
    sea.write_text("sea\n")
    one = {"prompt": "A cat", "bag": str(sky), "target": 0.9, "seed": float("nan"), "decay": None}
    two = {"prompt": "A cat", "bag": [str(sky), str(sea)], "target": {"sky": 0.9}, "seed": 0.0, "decay": True}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (one, two)))
    with pytest.warns(pplm.SteeringWarning):
        code, out, err = run("--prompts-file", tmp_path / "a.jsonl", "--use-columns", "bag,target,seed,decay",
                             "--allow-files", "--seed", 1, "--no-unsteered")  # fmt: skip
    assert code == 0, err + out
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["seed"] for line in lines] == [1, 1, 0, 0]
    assert [set(line["levels"]) for line in lines[1:3]] == [{"sky"}, {"sky", "sea"}]


def test_rows_with_seeds_of_their_own_share_batches(run, tmp_path, monkeypatch):
    from pplm.jobs import running

    generate, seen = running.generate_unjudged, []

    def counting(*arguments, seed, **options):
        seen.append(seed)
        return generate(*arguments, seed=seed, **options)

    monkeypatch.setattr(running, "generate_unjudged", counting)
    (tmp_path / "a.csv").write_text("prompt,seed\nThe sea,5\nThe cat,\n")
    code, _, err = run("--prompts-file", tmp_path / "a.csv", "--use-columns", "seed", "--seed", 1)
    assert (code, seen) == (0, [[5, 1]])
    assert "rows" not in err.split("steering: ")[1].split("\n")[0]
