"""The options that make, weigh and avoid bags, on a tiny model whose vocabulary has five words."""

import json
import re

import pytest

from attribute_models import read_word_list, weights_by_probability
from pplm.cli import main
from pplm.jobs import running

PROMPT = "the"


@pytest.fixture(autouse=True)
def tiny(monkeypatch, gpt2, tokenizer):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: (gpt2, tokenizer))


@pytest.fixture
def run(capsys, tmp_path):
    """Call the command greedily; return exit code, stdout, stderr and the steered record (None if there is none)."""

    def call(*arguments):
        path, code = tmp_path / "out.jsonl", 0
        path.unlink(missing_ok=True)
        settings = ("--greedy", "--no-unsteered", "--seed", 0, "--max-new-tokens", 2, "--num-iterations", 1)
        try:
            main(["generate", PROMPT, *map(str, [*settings, "--output", path, *arguments])])
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err, json.loads(path.read_text()) if path.exists() else None

    return call


@pytest.fixture
def sky(tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nsun\t0.5\n")
    return tmp_path / "sky.txt"


@pytest.fixture
def bags(monkeypatch):
    """Collect the attribute models that reach `generate`."""
    seen = []
    real = running.generate_unjudged

    def spy(*arguments, attributes, **options):
        seen.append([(attribute.model, attribute.weight) for attribute in attributes])
        return real(*arguments, attributes=attributes, **options)

    monkeypatch.setattr("pplm.jobs.running.generate_unjudged", spy)
    return seen


def attributes(record):
    return [(attribute["name"], attribute["weight"]) for attribute in record["attributes"]]


def assert_one_line(result, needle):
    code, out, err, record = result
    assert (code, out, record) == (2, "", None)
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ")
    assert re.search(needle, err), err


def test_a_bag_is_named_with_and_without_a_weight(run, sky):
    code, _, err, record = run("--bag", f"{sky}:2.5", "--bag", sky)
    assert code == 0, err
    assert attributes(record) == [("sky", 2.5), ("sky#2", 1.0)]
    first, second = (losses[0][0] for losses in record["attribute_losses"].values())
    assert first == second
    assert record["attribute_loss"][0][0] == pytest.approx(3.5 * first)


@pytest.mark.filterwarnings("ignore::pplm.SteeringWarning")  # the tiny tokenizer spells it byte by byte
def test_a_shipped_list_is_named_with_a_weight(run):
    assert attributes(run("--bag", "space:0.5")[3]) == [("space", 0.5)]


def test_a_bag_is_avoided_under_a_name_of_its_own(run, sky):
    _, _, _, record = run("--bag", f"{sky}:0.5", "--avoid-bag", f"{sky}:3")
    assert attributes(record) == [("sky", 0.5), ("avoid sky", 3.0)]
    wanted, avoided = (losses[0][0] for losses in record["attribute_losses"].values())
    assert wanted > avoided > 0


def test_the_weights_of_a_list_reach_its_bag(run, bags, sky):
    run("--bag", sky)
    assert bags[-1][0][0].weights == {"moon": 1.0, "sun": 0.5}


def test_words_can_weigh_by_the_models_own_probability(run, bags, tmp_path, gpt2, tokenizer):
    (tmp_path / "all.txt").write_text("moon\nsun\ncat\nsea\n")
    run("--bag", tmp_path / "all.txt", "--bag-weights", "model")
    words = dict.fromkeys(["moon", "sun", "cat", "sea"], 1.0)
    assert bags[-1][0][0].weights == pytest.approx(weights_by_probability(words, gpt2, tokenizer))
    assert bags[-1][0][0].weights["cat"] < 0.5


def test_words_can_weigh_by_their_rarity_in_a_file(run, bags, sky, tmp_path):
    (tmp_path / "lines.txt").write_text("the moon\nmoon\nthe sun\nnothing\n")
    run("--avoid-bag", sky, "--bag-weights", tmp_path / "lines.txt")
    weights = bags[-1][0][0].attribute.weights
    # log(5 / 3) for moon, 0.5 log(5 / 2) for sun, the larger taken as 1
    assert weights == pytest.approx({"moon": 1.0, "sun": 0.8968726})


def test_a_bag_from_seeds_is_shown_saved_and_used_again(run, bags, tmp_path):
    code, out, err, record = run("--bag-from", "moon,star", "--bag-size", 4, "--save-bag", tmp_path / "grown.txt")
    assert code == 0, err
    grown = bags[-1][0][0]
    assert grown.words[:2] == ("moon", "star")
    assert len(grown.words) == 4
    assert f"bag from moon,star: {' '.join(grown.words)}" in err.splitlines()
    assert "bag from" not in out
    assert attributes(record) == [("moon+star", 1.0)]
    assert read_word_list(tmp_path / "grown.txt") == grown.weights
    again = run("--bag", tmp_path / "grown.txt")[3]
    assert again["token_ids"] == record["token_ids"]
    assert list(again["attribute_losses"].values()) == list(record["attribute_losses"].values())


def test_several_bags_from_seeds_are_attributes_of_their_own(run):
    record = run("--bag-from", "moon", "--bag-from", "sea", "--bag-size", 2)[3]
    assert attributes(record) == [("moon", 1.0), ("sea", 1.0)]


def test_words_of_several_tokens_are_reported_on_stderr(run, tmp_path):
    (tmp_path / "mixed.txt").write_text("moon\nzebra\nsun sea\nstar\n")
    _, out, err, _ = run("--bag", tmp_path / "mixed.txt", "--avoid-bag", tmp_path / "mixed.txt")
    line = "bag mixed: 4 words, 2 of them of several tokens"
    *reports, settings = err.splitlines()
    assert settings.startswith("steering: ")
    assert [text.startswith(line) for text in reports] == [True, True]
    assert "several tokens" not in out


def test_words_of_a_single_token_are_not_reported(run, sky):
    (settings,) = run("--bag", sky)[2].splitlines()
    assert settings.startswith("steering: ")


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--bag", "space:-1"], "the weight in 'space:-1' must be a number of at least 0"),
        (["--bag", "space:inf"], "the weight in 'space:inf'"),
        (["--avoid-bag", "space:-0.5"], "the weight in 'space:-0.5'"),
        (["--bag", "space:nan"], "the weight in 'space:nan'"),
        (["--bag", "space:heavy"], "the weight in 'space:heavy' must be a number of at least 0; got 'heavy'"),
        (["--bag", "space:"], "the weight in 'space:' must be a number of at least 0; got ''"),
        (["--bag", "spcae:0.5"], "'spcae' is neither a file nor a shipped list"),
        (["--bag", "spcae:heavy"], "'spcae:heavy' is neither a file nor a shipped list"),
        (["--avoid-bag", "spcae"], "'spcae' is neither"),
        (["--bag", "space", "--bag-weights", "modle"], "text file modle cannot be read: No such file"),
        (["--bag", "space", "--bag-weights", "."], "text file . cannot be read: Is a directory"),
        (["--bag-from", "moon,,star"], "seeds must be words"),
        (["--bag-from", ""], "seeds must be words"),
        (["--bag-from", "moon,star", "--bag-size", "1"], r"at least the number of seeds \(2\); got 1"),
        (["--bag-from", "moon", "--bag-size", "many"], "many"),
        (["--bag", "space", "--save-bag", "x.txt"], "--save-bag x.txt needs one --bag-from; got 0"),
        (["--bag-from", "moon", "--bag-from", "sun", "--save-bag", "x.txt"], "needs one --bag-from; got 2"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(run, tmp_path, monkeypatch, arguments, needle):
    monkeypatch.chdir(tmp_path)
    assert_one_line(run(*arguments), needle)
    assert not (tmp_path / "x.txt").exists()


def test_unreadable_lists_are_one_line_and_exit_code_2(run, tmp_path):
    for name, content, needle in (
        ("latin.txt", b"caf\xe9\n", "is not UTF-8"),
        ("weight.txt", b"moon\tmuch\n", "line 1: the weight 'much' is not a number above 0"),
        ("zero.txt", b"moon\t0\n", "line 1: the weight '0' is not a number above 0"),
        ("twice.txt", b"moon\t1\nmoon\t2\n", "line 2: 'moon' already has another weight"),
        ("empty.txt", b"# nothing\n", "is empty; write one word per line"),
    ):
        (tmp_path / name).write_bytes(content)
        for option in ("--bag", "--avoid-bag"):
            assert_one_line(run(option, tmp_path / name), needle)


def test_a_bag_that_cannot_act_is_one_line_and_exit_code_2(run, tmp_path):
    (tmp_path / "long.txt").write_text("zebra\nquark\n")
    assert_one_line(
        run("--bag", tmp_path / "long.txt"), "bag long: steering can begin none of its words; without zebra, quark"
    )
    assert run("--avoid-bag", tmp_path / "long.txt")[0] == 0


def test_lists_in_other_forms_are_one_line_or_steer(run, bags, tmp_path):
    (tmp_path / "commas.txt").write_text("moon, star")
    assert_one_line(run("--bag", tmp_path / "commas.txt"), "line 1: 'moon, star' may be several words or columns")
    (tmp_path / "list.csv").write_text("word,weight\nmoon,1\nstar,0.5\n")
    assert run("--bag", tmp_path / "list.csv")[0] == 0
    assert bags[-1][0][0].weights == {"moon": 1.0, "star": 0.5}


def test_a_bag_whose_path_holds_a_colon_is_read(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my:2", "C:sky"):
        (tmp_path / name).write_text("moon\n")
    assert attributes(run("--bag", "my:2", "--bag", "my:2:0.5", "--bag", "C:sky:3")[3]) == [
        ("my:2", 1.0), ("my:2#2", 0.5), ("C:sky", 3.0)]  # fmt: skip


def test_a_bag_that_cannot_be_saved_is_told(run, tmp_path):
    code, out, err, record = run("--bag-from", "moon", "--bag-size", 2, "--save-bag", tmp_path / "no" / "bag.txt")
    assert (code, out, record) == (2, "", None)
    *_, last = err.splitlines()
    assert re.fullmatch(r"Error: --save-bag .*bag\.txt: the folder .*no does not exist; make it first", last)


def test_the_settings_that_steer_are_shown_once_and_only_where_something_steers(run, sky):
    err = run("--bag", sky, "--step-size", 0.25, "--steer-every", 2)[2]
    assert re.match(
        r"steering: preset fast \(a general choice; [^)]*\), step_size 0.25, num_iterations 1, gamma 1.5, ", err
    )
    assert "steer_every 2" in err
    assert err.count("steering:") == 1
    assert "steering:" not in run("--step-size", 0.25)[2]
