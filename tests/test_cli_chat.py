"""`pplm chat` in a pipe and `pplm generate --chat`, called in the same process."""

import io
import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch

import pplm
import pplm.chat
from attribute_models import BagOfWords, Discriminator
from pplm.chat import read_conversations

ROOT = Path(__file__).resolve().parent.parent
FORCE = ("--step-size", 2, "--gamma", 1, "--norm-rule", "current", "--gm-scale", 1, "--layers", 0)
pytestmark = pytest.mark.filterwarnings("ignore:.*ends with the assistant's answer:pplm.SteeringWarning")


@pytest.fixture
def bag(tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nstar\n")
    return tmp_path / "sky.txt"


@pytest.fixture
def head(tmp_path):
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    Discriminator.from_weights(weight, torch.zeros(2), ["bad", "good"]).save(tmp_path / "taste")
    return tmp_path / "taste"


@pytest.fixture
def generate(command, chat_model):
    return partial(command, "generate", "--model", "tiny", "--seed", 0, "--max-new-tokens", 6, "--num-samples", 1)


@pytest.fixture
def talk(command, chat_model, monkeypatch):
    """Run a piped chat over some lines; return its exit code, the answers and what is on stderr."""

    def call(*lines, options=("--seed", 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code, out, err = command("chat", "--model", "tiny", "--max-new-tokens", 6, *options)
        assert "\x1b" not in out + err
        assert "> " not in out
        return code, out, err

    return call


def answers(out):
    """Return the labels that stand before answers."""
    return re.findall(r"^\[(\w+)\]", out, re.MULTILINE)


def conversation(*contents):
    return [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 9, contents, strict=False)]


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- generate ----------------------------------------------------------------------------------------------------


def test_generate_answers_its_prompts_and_prints_the_answers_alone(generate, bag, chat):
    code, out, err = generate("--chat", "The sea?", "The cat?", "--bag", bag, *FORCE)
    assert code == 0, err
    assert re.findall(r"^\[(asked|unsteered 1|steered 1)\]", out, re.MULTILINE) == [
        "asked", "unsteered 1", "steered 1"] * 2  # fmt: skip
    assert out.count("The sea?") == out.count("The cat?") == 1
    arguments = {"max_new_tokens": 6, "seed": 0, "do_sample": True, "top_k": 10}
    plain = pplm.generate(*chat, [conversation("The sea?"), conversation("The cat?")], **arguments)
    for text in plain:
        assert f"[unsteered 1] {' '.join(text.completion.split())}\n" in out


def test_a_file_of_conversations_is_answered_and_written_with_its_messages(generate, tmp_path):
    rows = [conversation("The sea"), conversation("The cat", "A star", "Why?"), conversation("The sun", "Bright")]
    path = write_jsonl(tmp_path / "talks.jsonl", *rows)
    code, _, err = generate("--messages", path, "--output", tmp_path / "out.jsonl", "--system", "Be a moon")
    assert code == 0, err
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    first = {"role": "system", "content": "Be a moon"}
    assert [row["messages"] for row in written] == [[first, *rows[0]], [first, *rows[1]], [first, rows[2][0]]]
    assert [row["prompt"] for row in written] == ["The sea", "Why?", "The sun"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--chat",), r"Missing argument 'PROMPT...'"),
        (("The sea", "--messages", "FILE"), "--messages .*talks.jsonl holds the conversations; leave out 'The sea'"),
        (("The sea", "--chat", "--system", ""), "--system '' is empty; give at least one word, or leave it out"),
        (("The sea", "", "--chat"), "PROMPT '' is empty; give at least one word, or leave it out"),
        ((), "Missing argument 'PROMPT...', --messages FILE.jsonl or --prompts-file FILE."),
        (("The sea", "--system", "Hi"), "--system 'Hi' is a message of a conversation; add --chat, or leave it out"),
        (("--chat", "The sea", "--no-bos"), "--no-bos does not go with a conversation"),
        (("--messages", "FILE", "--system", "Hi"), "conversation 2 of .* has a system message; leave --system out"),
        (("--messages", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--messages", "BROKEN"), "broken.jsonl, line 2, message 0 has no content; it has role"),
        (("--chat", "  "), "PROMPT ' ' is empty"),
        (("--chat", "word " * 300), "positions"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_exit_code_2(generate, tmp_path, arguments, message):
    own = [{"role": "system", "content": "Be"}, *conversation("Hi")]
    files = {
        "FILE": write_jsonl(tmp_path / "talks.jsonl", conversation("Hi"), own),
        "BROKEN": write_jsonl(tmp_path / "broken.jsonl", conversation("Hi"), [{"role": "user"}]),
    }
    code, out, err = generate(*(files.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "")
    assert re.fullmatch(f"Error: .*{message}.*\n", err)


@pytest.mark.parametrize("arguments", [("generate", "--chat", "Hi"), ("chat",)])
def test_a_model_without_a_template_is_refused_by_name(command, monkeypatch, embedded, arguments):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: embedded)
    code, out, err = command(*arguments, "--model", "gpt2-mini")
    assert (code, out) == (2, "")
    assert re.fullmatch("Error: --model gpt2-mini has no chat template: .*; name a chat model, or .*\n", err)


# --- chat, piped -------------------------------------------------------------------------------------------------


def test_piped_lines_are_answered_on_stdout_alone(talk, chat, bag):
    code, out, err = talk("The sea", "", "The cat", options=("--seed", 0, "--bag", bag, *FORCE))
    assert code == 0, err
    own = pplm.chat.Conversation(*chat, seed=0, max_new_tokens=6, do_sample=True, top_k=10)
    own.ask("The sea")
    assert out.splitlines()[0] != own.messages[1]["content"]
    assert err.startswith("steering: preset fast")
    assert "seed" not in err
    assert talk("The sea", "", "The cat", options=("--seed", 0, "--bag", bag, *FORCE)) == (code, out, err)


def test_without_a_seed_one_is_shown_that_repeats_the_answers(talk, monkeypatch):
    monkeypatch.setattr("secrets.randbelow", lambda _: 7)  # of some seeds this model writes escape characters
    _, out, err = talk("The sea", "The cat", options=())
    seed = re.search(r"^seed (\d+)$", err, re.MULTILINE)[1]
    assert "the answers are unsteered" in err
    assert talk("The sea", "The cat", options=("--seed", seed))[1] == out


def test_commands_change_what_steers_the_next_answer(talk, bag, head):
    options = ("--seed", 0, *FORCE)
    _, plain, _ = talk("The sea", options=options)
    code, out, err = talk(f"/bag {bag}", "The sea", "/bag", "/bag none", "/reset", options=options)
    assert code == 0
    assert out != plain
    assert out == talk("The sea", options=(*options, "--bag", bag))[1]
    assert f"bag: {bag}\nsteering: preset" in err
    assert err.endswith(
        "bag: none\nno attribute given (--bag, --discriminator, /bag, ...): the answers are unsteered\n"
        "the conversation begins anew\n"
    )
    assert talk(f"/discriminator {head}:good", "The sea", options=options)[1] != plain
    assert talk(f"/avoid {bag}", "The sea", options=options)[0] == 0
    _, out, err = talk(f"/bag {bag}", "/strength 0", "The sea", options=("--seed", 0))
    assert out == plain
    assert "nothing steers: strength is 0\n" in err
    assert talk("/bag none", "The sea", options=(*options, "--words", "moon"))[1] == plain
    assert talk("/avoid none", "The sea", options=(*options, "--avoid-words", "sea"))[1] == plain


def test_a_target_is_shown_kept_and_refused_for_attributes_that_it_does_not_name(talk, bag, tmp_path):
    (tmp_path / "water.txt").write_text("sea\n")
    lines = ("/target sky=0.2", "/target", f"/bag {tmp_path / 'water.txt'}", "/bag", "/target moon=0.1", "/target none")
    _, _, err = talk(*lines, options=("--seed", 0, "--bag", bag))
    assert err.count("target: sky=0.2\n") == 2
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert ["sky" in line for line in errors] == [True, True]
    assert f"bag: {bag}\n" in err
    assert f"bag: {tmp_path / 'water.txt'}" not in err
    assert "target: none\n" in err


def test_what_was_said_of_a_bag_and_of_the_steering_is_not_said_again(talk, tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nstarlight\n")
    _, _, err = talk(*[f"/bag {tmp_path / 'sky.txt'}"] * 3, f"/avoid {tmp_path / 'sky.txt'}", "/strength 0.8")
    assert err.count("bag sky: 2 words, 1 of them of several tokens") == 1
    assert err.count(f"bag: {tmp_path / 'sky.txt'}\n") == 3
    assert err.count("steering: ") == 2  # the first, and the new strength


def test_a_bag_that_was_grown_is_saved_once_and_not_after_each_command(talk, bag, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(BagOfWords, "save", lambda _, path: saved.append(path))
    path = tmp_path / "grown.txt"
    grown = ("--bag-from", "moon", "--bag-size", 2, "--save-bag", path)
    code, _, err = talk(f"/avoid {bag}", "/avoid none", options=("--seed", 0, *grown))
    assert (code, saved) == (0, [path])
    assert "Error" not in err


def test_strength_is_shown_and_kept(talk, bag):
    asked = ("/strength 0.8", "/strength", "/strength much", "/strength -1")
    _, _, err = talk(*asked, options=("--bag", bag))
    assert err.count("strength: 0.8\n") == 2
    assert "the dial, strength 0.8" in next(line for line in reversed(err.splitlines()) if line.startswith("steering:"))
    assert "Error: /strength takes a number, such as 0.5; got 'much'\n" in err
    assert "Error: strength must be finite and between 0 and 1; got -1\n" in err
    assert "strength: none; the other settings steer\n" in talk("/strength none", options=("--bag", bag))[2]
    assert "strength takes the place of step_size" in talk("/strength 0.5", options=("--bag", bag, *FORCE))[2]


def test_compare_shows_the_unsteered_answer_after_the_steered_one(talk, bag):
    options = ("--seed", 0, "--bag", bag, *FORCE)
    _, out, err = talk("/compare", "The sea", "/compare", "The cat", options=options)
    assert answers(out) == ["steered", "unsteered"]
    assert "compare: on\ncompare: off\n" in err
    plain = talk("The sea", options=("--seed", 0))[1]
    assert f"[unsteered] {plain}" in out
    _, out, err = talk("/compare", "The sea")
    assert answers(out) == []
    assert "compare: on, but nothing steers\n" in err


def test_a_saved_conversation_is_answered_by_generate(talk, generate, tmp_path):
    path = tmp_path / "talk.jsonl"
    code, out, err = talk("/system Be a star", "The sea", f"/save {path}", f"/save {path}", "/save", "/system none")
    assert code == 0
    assert "system: Be a star\n" in err
    assert f"saved 3 messages to {path}\nError: {path} exists; name another file\n" in err
    assert "Error: /save needs a file's name\nsystem: none\n" in err
    assert [message["role"] for message in read_conversations(path)[0]] == ["system", "user"]
    code, answered, err = generate("--messages", path)
    assert code == 0, err
    assert f"[unsteered 1] {' '.join(out.split())}\n" in answered


def test_what_cannot_be_obeyed_or_answered_is_one_line_and_the_chat_goes_on(talk, bag):
    lines = [
        "/foo",
        "/bag nothing",
        "/discriminator x",
        "/bag 'a",
        "/reset now",
        "word " * 600,
        "\udcff",
        "/help",
        "The sea",
    ]
    code, out, err = talk(*lines, "/quit", "The cat", options=("--seed", 0))
    assert code == 0
    assert out == talk("The sea")[1]
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    needles = ["no command /foo; /help", "'nothing' is neither", "names no label", "close the quotes", "takes nothing"]
    for line, needle in zip(errors, [*needles, "positions", "no text"], strict=True):
        assert needle in line
    assert "/strength X" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", -1), "--seed must be at least 0"),
        (("--max-new-tokens", 0), "--max-new-tokens must be at least 1"),
        (("--greedy", "--top-k", 3), "--greedy takes the likeliest token; leave out --top-k"),
        (("--bag", "nothing"), "'nothing' is neither"),
        (("--system", " "), "--system ' ' is empty; give at least one word, or leave it out"),
    ],
)
def test_bad_options_end_the_chat_before_it_begins(talk, options, message):
    code, out, err = talk("The sea", options=options)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"Error: .*{message}.*\n", err)
