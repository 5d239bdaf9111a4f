"""`pplm benchmark`: its table, its JSON, its figure and its refusals."""

import gc
import json

import pytest

from pplm.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:bag space.*can begin 2 of its 76 words:pplm.SteeringWarning")
"""The tiny model spells nearly no word."""

KEYS = {
    "attribute",
    "samples",
    "prompt_tokens",
    "new_tokens",
    "dtype",
    "unsteered_seconds_per_token",
    "steered_seconds_per_token",
    "ratio",
    "passes_per_token",
    "peak_memory_mb",
}


pytestmark = pytest.mark.filterwarnings("ignore:bag space:pplm.SteeringWarning")
"""The tiny tokenizer spells nearly all of the bag byte by byte."""


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection():
    """The benchmark collects garbage before it measures; what the test run has loaded needs no second look."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def tiny(gpt2, tokenizer, tmp_path):
    """A folder with the tiny model."""
    gpt2.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def run(arguments, tmp_path):
    output = tmp_path / "out.json"
    main(["benchmark", "--device", "cpu", "--repeats", "1", "--json", str(output), *arguments])
    return json.loads(output.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_one_command_prints_a_table_and_writes_rows_and_a_figure(tiny, tmp_path, capsys):
    plot = tmp_path / "cost.png"
    result = run(
        ["--model", tiny, "--samples", "1,2", "--new-tokens", "2", "--prompt-tokens", "3", "--attributes",
         "bag,discriminator", "--dtype", "float32,bfloat16", "--num-iterations", "1", "--plot", str(plot)],
        tmp_path,
    )  # fmt: skip
    rows = result["rows"]
    assert len(rows) == 2 * 2 * 2
    assert all(set(row) >= KEYS for row in rows)
    for row in rows:
        assert row["ratio"] == pytest.approx(row["steered_seconds_per_token"] / row["unsteered_seconds_per_token"])
        assert row["ratio_to_float32"] > 0
        assert row["peak_memory_mb"] >= 0
        assert row["passes_per_token"] > row["unsteered_passes_per_token"] == 1
    assert plot.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith(("| bag", "| discriminator"))]
    assert len(table) == len(rows)
    assert f"{rows[0]['ratio']:.2f}" in table[0]
    assert "threads 1" in printed
    assert result["machine"]["torch"] in printed


def test_settings_are_the_preset_s_for_each_attribute_unless_given(tiny, tmp_path):
    result = run(["--model", tiny, "--samples", "1", "--new-tokens", "1", "--prompt-tokens", "3", "--window-length",
                  "2", "--preset", "paper"], tmp_path)  # fmt: skip
    bag, head = (result["settings"]["steering"][name] for name in ("bag", "discriminator"))
    assert (bag["num_iterations"], bag["step_size"], bag["window_length"]) == (3, 0.03, 2)
    assert (head["num_iterations"], head["step_size"], head["window_length"]) == (10, 0.04, 2)
    assert {row["attribute"]: row["passes_per_token"] for row in result["rows"]}["discriminator"] > 20


def test_a_comparison_that_was_not_measured_is_no_column(tiny, tmp_path, capsys):
    result = run(["--model", tiny, "--samples", "2", "--new-tokens", "1", "--prompt-tokens", "3", "--attributes", "bag",
                  "--dtype", "bfloat16,float16", "--num-iterations", "1"], tmp_path)  # fmt: skip
    assert {row["ratio_to_float32"] for row in result["rows"]} == {None}
    printed = capsys.readouterr().out
    assert "to float32" not in printed
    assert "to one sample" not in printed


def test_a_random_model_needs_no_tokenizer(tmp_path, monkeypatch):
    """At a size that a test can afford; the bag is one of random tokens then."""
    small = {"random:gpt2": {"n_layer": 1, "n_embd": 8, "n_head": 1}}
    monkeypatch.setattr("pplm.benchmark.random_models.RANDOM_MODELS", small)
    result = run(["--model", "random:gpt2", "--samples", "1", "--new-tokens", "1", "--num-iterations", "1"], tmp_path)
    assert result["model"] == "random:gpt2"
    assert {row["attribute"] for row in result["rows"]} == {"bag", "discriminator"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "1,x"], "--samples takes whole numbers with commas between; got '1,x'"),
        (["--samples", ""], "--samples takes whole numbers"),
        (["--samples", "0"], "samples must be a whole number of at least 1; got 0"),
        (["--new-tokens", "0"], "new_tokens must be"),
        (["--prompt-tokens", "-3"], "prompt_tokens must be"),
        (["--attributes", "bag,cat"], "--attributes must be of bag, discriminator; got 'cat'"),
        (["--attributes", "bag,bag"], "different values"),
        (["--dtype", "int8"], "dtypes must be of float32, bfloat16, float16; got 'int8'"),
        (["--repeats", "0"], "repeats must be"),
        (["--step-size", "-1"], "step_size must be"),
        (["--model", "random:bert"], "must be one of random:gpt2, random:gpt2-medium"),
        (["--model", "/no/such/model"], "model folder /no/such/model does not exist"),
        (["--device", "tpu"], "device 'tpu' is not available here"),
        (["--json", "/no/such/folder/out.json"], "--json /no/such/folder/out.json: the folder"),
        (["--plot", "cost.txt"], "end its name in .png"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", *arguments])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not printed.out


def test_a_text_longer_than_the_model_is_one_line(tiny, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--model", tiny, "--device", "cpu", "--prompt-tokens", "60"])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("Error: max_new_tokens=30 after a prompt of 60 tokens needs 90 positions")
    assert len(printed.err.strip().splitlines()) == 1
    assert not printed.out


def test_the_settings_that_steered_are_shown_for_each_attribute(tiny, capsys):
    lengths = "--samples 1 --prompt-tokens 4 --new-tokens 2 --repeats 1"
    main(["benchmark", "--model", tiny, "--device", "cpu", *lengths.split(), "--num-iterations", "2"])
    lines = capsys.readouterr().err.splitlines()
    bag, head = (line for line in lines if "steering: " in line)
    assert bag.startswith("bag, steering: the dial, strength 0.5, num_iterations 2, ")
    assert head.startswith("discriminator, steering: the dial, strength 0.5, num_iterations 2, ")
