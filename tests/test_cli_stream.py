"""`pplm generate --stream`, and texts on a terminal."""

import io
import re
from functools import partial
from types import SimpleNamespace

import pytest
from rich.console import Console

import pplm
from pplm.cli.stream import StreamedText, _style
from pplm.explanation.facts import Level

ANSI = re.compile(r"\x1b\[[0-9;]*m")
WORDS = ("The lake", "--bag", "space", "--strength", 0.7, "--seed", 3, "--max-new-tokens", 40)


@pytest.fixture(autouse=True)
def one_model(monkeypatch, embedded):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: embedded)


@pytest.fixture
def run(command):
    return partial(command, "generate")


@pytest.fixture
def terminal(monkeypatch, run):
    """Run as on a terminal of 80 columns."""

    def call(*arguments, **environment):
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in {"FORCE_COLOR": "1", "COLUMNS": "80", "COLORTERM": "truecolor", **environment}.items():
            monkeypatch.setenv(name, value)
        return run(*arguments)

    return call


# --- what it shows ---------------------------------------------------------------------------------------------


def test_piped_the_stream_is_what_comes_without_it(run):
    code, streamed, err = run(*WORDS, "--stream")
    assert code == 0, err
    assert streamed == run(*WORDS, "--num-samples", 1)[1]
    assert re.findall(r"^\[(\w+ 1)\]", streamed, re.MULTILINE) == ["unsteered 1", "steered 1"]
    assert "\x1b" not in streamed
    assert "shaded" not in err
    alone = run(*WORDS, "--stream", "--no-unsteered")[1]
    assert streamed.endswith(alone)
    assert alone.startswith("[steered 1] The lake")


def test_tokens_are_written_as_they_come_the_unsteered_text_first(run, monkeypatch):
    written, seen = [], []
    write, generate = StreamedText.write, pplm.generate

    def watch(self, piece, style=""):
        write(self, piece, style)
        written.append(piece)

    def generate_watched(*arguments, on_token, **options):
        def count(token):
            seen.append((token.steered, len(written)))
            return on_token(token)

        return generate(*arguments, on_token=count, **options)

    monkeypatch.setattr(StreamedText, "write", watch)
    monkeypatch.setattr("pplm.generation.generate", generate_watched)
    assert run(*WORDS, "--stream")[0] == 0
    assert [steered for steered, _ in seen] == [False] * 40 + [True] * 40
    counts = [count for _, count in seen]
    assert counts == list(range(2, 42)) + list(range(44, 84))  # a label's space and the prompt come before each text


def test_on_a_terminal_words_are_shaded_lines_end_between_words_and_a_legend_stands_on_stderr(terminal, run):
    code, shown, err = terminal(*WORDS, "--stream")
    assert code == 0
    assert "raised (blue)" in err
    lines = ANSI.sub("", shown).splitlines()
    assert len(lines) > 4
    assert max(map(len, lines)) <= 80
    unsteered, steered = re.split(r"\x1b\[1;36m", shown)
    assert not re.search(r"48;2", unsteered)
    blues = re.findall(r"48;2;(?:203;225;238|165;204;226|122;180;213|85;159;201)m", steered)
    assert len(blues) > 5
    assert re.search(r"\x1b\[1;4;38;[\d;]*m(stars?|space|planets?|moon|universe)\x1b", steered)
    plain = run(*WORDS, "--num-samples", 1, "--no-unsteered")[1]
    assert " ".join(ANSI.sub("", "[" + steered.partition("[")[2]).split()) == " ".join(ANSI.sub("", plain).split())


def test_no_color_is_obeyed_on_a_terminal(terminal):
    coloured = terminal(*WORDS, "--stream")[1]
    code, shown, err = terminal(*WORDS, "--stream", NO_COLOR="1")
    assert code == 0
    assert shown == ANSI.sub("", coloured)
    assert "shaded" not in err


def test_a_terminal_of_16_colours_has_cyan_for_what_was_raised(terminal):
    _, shown, err = terminal(*WORDS, "--stream", COLORTERM="", TERM="xterm")
    assert "raised (cyan) or lowered (yellow)" in err
    assert "48;2" not in shown
    assert re.search(r"\x1b\[(36|30;46)m", shown)


def test_texts_that_are_not_streamed_end_their_lines_between_words_on_a_terminal_alone(terminal, run):
    plain = run(*WORDS)[1]
    assert len([line for line in plain.splitlines() if line]) == 4
    shown = ANSI.sub("", terminal(*WORDS)[1])
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.split() == plain.split()


@pytest.mark.parametrize("more", [(), ("--stream", "--strength", 0.7)])
def test_what_is_said_about_a_run_wraps_between_words_on_a_terminal_alone(terminal, run, more):
    asked = ("The lake", "--bag", "space", "--max-new-tokens", 2, *more)
    plain = [line for line in run(*asked, "--seed", 0)[2].splitlines() if line.startswith(("bag space:", "steering:"))]
    assert len(plain) == 2
    assert len(plain[0]) > 80
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal(*asked, "--seed", 0)[2]).splitlines()
    said = [line for line in lines if "━" not in line]  # but for bars
    assert max(map(len, said)) <= 80
    assert " ".join(plain) in " ".join(" ".join(said).split())


def test_without_an_attribute_one_unsteered_text_is_streamed(run):
    code, out, _ = run("The lake", "--stream", "--seed", 0, "--max-new-tokens", 3)
    assert code == 0
    assert re.findall(r"^\[(.*?)\]", out, re.MULTILINE) == ["unsteered 1"]


def test_an_answer_is_streamed_after_its_question(command, chat, monkeypatch, tmp_path):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: chat)
    (tmp_path / "sky.txt").write_text("moon\nstar\n")
    asked = ("generate", "--chat", "The sea?", "--bag", tmp_path / "sky.txt", "--seed", 0, "--max-new-tokens", 6)
    code, out, err = command(*asked, "--stream")
    assert code == 0, err
    assert out == command(*asked, "--num-samples", 1)[1]
    assert out.startswith("[asked] The sea?\n[unsteered 1] ")


def test_an_interrupt_leaves_a_whole_line_behind(run, monkeypatch):
    write = StreamedText.write

    def interrupted(self, piece, style=""):
        if self._column > 30:
            raise KeyboardInterrupt
        write(self, piece, style)

    monkeypatch.setattr(StreamedText, "write", interrupted)
    code, out, err = run(*WORDS, "--stream")
    assert code == 130
    assert out.startswith("[unsteered 1] The lake")
    assert out.endswith("\n")
    assert err.endswith("Interrupted.\n")


# --- how it is written -----------------------------------------------------------------------------------------


def written(pieces, *, width, terminal):
    file = io.StringIO()
    text = StreamedText(Console(file=file, width=width, force_terminal=terminal, color_system=None, soft_wrap=True))
    for piece in pieces:
        text.write(piece)
    before = file.getvalue()
    text.end()
    return before, file.getvalue()


def test_a_word_of_several_tokens_stays_in_one_line_and_a_pipe_has_each_piece_at_once():
    pieces = ["The", " uni", "vers", "e\n\n", " is", " big"]
    assert written(pieces, width=12, terminal=True)[1] == "The universe\nis big\n"
    assert written(pieces, width=11, terminal=True)[1] == "The\nuniverse is\nbig\n"
    assert written(pieces, width=11, terminal=False) == ("The universe is big", "The universe is big\n")
    assert written(pieces[:4], width=80, terminal=True)[0] == "The universe"


def test_a_word_longer_than_a_line_is_left_to_the_terminal():
    assert written(["a ", "x" * 25, " b c"], width=10, terminal=True)[1] == f"a\n{'x' * 25} b c\n"


@pytest.mark.parametrize(
    ("gains", "words", "style"),
    [
        ({"a": 0.02, "b": -0.3}, {}, "#1d1f24 on #eaa878"),  # the attribute that changed most counts
        ({"a": 0.3, "b": -0.02}, {}, "#1d1f24 on #7ab4d5"),
        ({"a": -0.02, "b": None}, {"a": ["moon"]}, "bold underline #1d1f24 on #f6dcc9"),
        ({"a": 0.001}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_a_token_is_shaded_by_what_steering_changed_most(gains, words, style):
    levels = {name: None if gain is None else Level(0.5, 0.5 + gain) for name, gain in gains.items()}
    assert _style(SimpleNamespace(levels=levels, words=words), "truecolor") == style


# --- what it cannot be combined with ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (("The lake", "The city"), "got 2: 'The lake', 'The city'"),
        (("The lake", "--num-samples", 2), "--num-samples 2"),
        (("The lake", "--unsteered-samples", 3), "--unsteered-samples 3"),
        (("The lake", "--rerank", 4), "--rerank 4"),
        (("The lake", "--output", "texts.jsonl"), "--output texts.jsonl"),
        (("The lake", "--trace", "out.html"), "--trace out.html"),
        (("--prompts-file", "-"), "--prompts-file -"),
        (("--messages", "talk.jsonl"), "--messages talk.jsonl"),
    ],
)
def test_what_the_stream_cannot_be_combined_with_is_one_line_and_exit_code_2(run, arguments, needle):
    code, out, err = run(*arguments, "--bag", "space", "--stream")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert needle in err
    assert "--stream" in err


def test_several_processes_do_not_stream(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out, err = run("The lake", "--bag", "space", "--stream")
    assert (code, out) == (2, "")
    assert "accelerate launch" in err
