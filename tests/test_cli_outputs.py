"""Files that commands write: never replaced unasked, written whole, and the settings of the run on stderr."""

import os
import threading

import pytest

from pplm import InputError, SteeringConfig, SteeringPresets, SteeringWarning
from pplm.cli.outputs import check_outputs, write_text
from pplm.cli.steering_options import steering_line

SINE = ["sine", "--seeds", "1", "--epochs", "1", "--rounds", "1"]
COMMANDS = {
    "generate --output": (["generate", "The lake", "--bag", "space"], "--output"),
    "generate --save-bag": (["generate", "The lake", "--bag-from", "moon"], "--save-bag"),
    "score": (["score", "{texts}"], "--csv"),
    "benchmark --json": (["benchmark"], "--json"),
    "benchmark --plot": (["benchmark"], "--plot"),
    "sine --output": (SINE, "--output"),
    "sine --plot": (SINE, "--plot"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_file_that_exists_is_kept_and_no_work_is_done(command, tmp_path, case):
    arguments, option = COMMANDS[case]
    (tmp_path / "texts.jsonl").write_text('{"text": "The lake is cold."}\n', encoding="utf-8")
    old = tmp_path / "old.png"
    old.write_text("mine", encoding="utf-8")
    filled = [argument.format(texts=tmp_path / "texts.jsonl") for argument in arguments]
    code, out, err = command(*filled, option, old)
    assert (code, out) == (2, "")
    assert err == f"Error: {option} {old} exists; add --overwrite to replace it, or name another file\n"
    assert old.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_two_options_cannot_name_one_file(command, tmp_path, overwrite):
    one, same = tmp_path / "same.txt", tmp_path / "." / "same.txt"
    code, _, err = command(
        "generate", "The lake", "--bag-from", "moon", "--output", one, "--save-bag", same, *overwrite
    )
    assert code == 2
    assert "--save-bag and --output both name" in err
    assert not one.exists()


@pytest.mark.parametrize("arguments", [["--step-size", "0"], ["--gm-scale", "0"], ["--bag", "legal:0"]])
def test_a_request_that_steers_nothing_is_warned_of(command, arguments):
    bag = [] if "--bag" in arguments else ["--bag", "space"]
    with pytest.warns(SteeringWarning, match="nothing steers: "):
        code, _, _ = command("generate", "The lake", *bag, *arguments, "--max-new-tokens", "2", "--num-samples", "1")
    assert code == 0


def test_overwrite_replaces_the_file(command, tmp_path):
    old, texts = tmp_path / "old.csv", tmp_path / "texts.jsonl"
    old.write_text("mine", encoding="utf-8")
    texts.write_text('{"text": "The lake is cold."}\n', encoding="utf-8")
    assert command("score", texts, "--csv", old, "--overwrite")[0] == 0
    assert "The lake is cold." in old.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.csv", "texts.jsonl"]


def test_a_file_that_is_scored_is_not_overwritten_either(command, tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nThe lake is cold.\n", encoding="utf-8")
    code, _, err = command("score", texts, "--csv", texts, "--overwrite")
    assert code == 2
    assert "is the file that is scored" in err


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path):
    (tmp_path / "old").write_text("mine", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_text("--output", tmp_path / "old", "half \udcff")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"old": "mine"}


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    check_outputs({"--output": pipe}, overwrite=False)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    write_text("--output", pipe, "text\n")
    reader.join(timeout=10)
    assert found == ["text\n"]
    assert pipe.is_fifo()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--plot .*a\.png: the folder .*no does not exist; make it first"):
        check_outputs({"--json": None, "--plot": tmp_path / "no" / "a.png"}, overwrite=True)


def test_the_settings_of_a_run_are_one_line_without_those_that_do_nothing():
    preset = "step_size 0.03, num_iterations 3, gamma 1.5, kl_scale 0.01, gm_scale 0.99, window_length 5"
    chosen = SteeringPresets().choose([], "paper")
    start = f"steering: {chosen}, {preset}"
    assert steering_line(SteeringConfig(), chosen) == f"{start}, norm_rule running_max"
    assert steering_line(SteeringConfig(steer_every=2), chosen) == f"{start}, steer_every 2, norm_rule running_max"


def test_the_settings_that_the_waves_were_drawn_with_are_shown(command):
    code, out, err = command(*SINE, "--protocol", "published", "--gamma", "0.5")
    assert code == 0
    line = "steering: step_size 0.05, num_iterations 1, gamma 0.5, kl_scale 0.0, norm_rule current, rounds 1\n"
    assert err.startswith(line)
    assert "steering:" not in out


def test_an_empty_name_is_refused_and_is_not_the_folder_we_are_in(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (("generate", "a", "--output", ""), "Invalid value for '--output': the name is empty"),
        (("evaluate", "--output", ""), "Invalid value for '--output': the name is empty"),
        (("generate", "a", "--model", ""), "model '' names nothing; give a folder, a .gguf file or a hub id"),
        (("classify", "a", "--discriminator", ""), "discriminator '' is neither a folder nor a shipped one"),
        (("train-discriminator", "", "--output", "x"), "data names nothing; give a file, a folder or a hub data set"),
    ):
        code, _, err = command(*arguments)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert words in err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_shows_the_texts_that_are_made(command, chat_model, tmp_path, monkeypatch):
    from pplm.jobs import running

    generate, calls = running.generate_unjudged, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    monkeypatch.setattr(running, "generate_unjudged", interrupted)
    ask = ["--num-samples", 1, "--max-new-tokens", 4, "--max-batch-size", 2, "--device", "cpu", "--seed", 3]
    prompts = ["The sea", "Sun", "A star and a moon and a cat are", "moon", "The cat is"]
    code, out, err = command("generate", "--model", "tiny", *prompts, *ask, "--output", tmp_path / "a.jsonl")
    assert code == 130
    lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    assert out.count("[unsteered") == len(lines) > 0
    assert f"{len(lines)} texts are in {tmp_path / 'a.jsonl'}" in err
    assert "--prompts-file" in err
