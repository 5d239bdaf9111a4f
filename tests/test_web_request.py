"""What a visitor of the web page asks for: bounds, the link, and the copies as command and program."""

import ast
import re
import shlex
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_models.naming import KnownNames
from pplm.apps.web.copies import as_command, as_python
from pplm.apps.web.link import query_of, request_of
from pplm.apps.web.request import PageRequest, check_offered, split_words
from pplm.chat import read_conversations
from pplm.cli.app import pplm
from pplm.errors import InputError

NASTY = "</script><img src=x onerror=alert(1)> \"quoted\" 'single' $(id) `id` ; id \\ %s"
SERVED = SimpleNamespace(name="gpt2-mini", options={}, known=KnownNames.shipped())
FULL = PageRequest(
    prompt=f"-{NASTY}\nand a second line",
    bags=("space", "legal"),
    avoid_bags=("military",),
    words=("blue moon", "it's"),
    avoid_words=("$(id)",),
    seeds=("moon", "star"),
    heads=("sentiment:positive",),
    strength=0.35,
    samples=3,
    seed=7,
    length=20,
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "a" * 2001}, "at most 2000 characters; this one has 2001"),
        ({"prompt": "a\x1b[201~"}, "control character, '\\x1b'"),
        ({"prompt": "a\ud800"}, "half a character"),
        ({"prompt": 5}, "prompt must be text; got int"),
        ({"system": "Be brief."}, "a system message belongs to a chat"),
        ({"conversation": ("Hi", "Hello")}, "a conversation belongs to a chat"),
        ({"chat": True, "conversation": ("Hi",)}, "a list of messages, each followed by its answer"),
        ({"chat": True, "conversation": "Hi"}, "a list of messages, each followed by its answer"),
        ({"chat": True, "conversation": (" ", "Hello")}, "a message of the conversation is empty"),
        ({"chat": True, "conversation": ("Hi", 5)}, "each answer of a conversation must be text; got int"),
        ({"chat": True, "conversation": ("a\x1b", "Hello")}, "control character, '\\x1b'"),
        ({"chat": True, "conversation": ("Hi", "a\ud800")}, "half a character"),
        ({"chat": True, "conversation": ("Hi", "Hello") * 17}, "at most 32 messages and answers"),
        ({"chat": True, "conversation": ("a" * 2001, "")}, "at most 2000 characters; this one has 2001"),
        ({"chat": True, "conversation": ("Hi", "a" * 3999) * 2}, "8000 characters in all; this one has 4 of 8002"),
        ({"strength": 1.5}, "strength must be"),
        ({"strength": float("nan")}, "strength must be"),
        ({"strength": "strong"}, "strength must be"),
        ({"samples": 0}, "samples must be a whole number of at least 1; got 0"),
        ({"samples": 5}, "samples must be at most 4 here; got 5"),
        ({"length": 201}, "length must be at most 200 here; got 201"),
        ({"length": 2.5}, "length must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
        ({"seed": 2**31}, "seed must be at most"),
        ({"bags": ("space",) * 9}, "bags may hold at most 8; got 9"),
        ({"words": tuple(map(str, range(101)))}, "words may hold at most 100; got 101"),
        ({"words": ("a" * 61,)}, "at most 60 characters"),
        ({"words": ("moon,star",)}, "without comma; got 'moon,star'"),
        ({"seeds": tuple("abcdefghi")}, "at most 8 words here; got 9"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_with_its_name_value_and_remedy(settings, message):
    with pytest.raises(InputError) as caught:
        PageRequest(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "openai-community/gpt2", "spac"])
def test_names_that_are_not_offered_are_refused(name):
    for field in ("bags", "avoid_bags", "heads"):
        with pytest.raises(InputError, match="is not offered here; choose one of"):
            check_offered(PageRequest(**{field: (name,)}), ("space",), ("sentiment:positive",), chat=False)


def test_a_chat_is_refused_where_the_model_has_no_template():
    with pytest.raises(InputError, match="no chat template"):
        check_offered(PageRequest(chat=True), (), (), chat=False)


def test_words_are_split_at_commas_and_lines_each_once():
    assert split_words(" moon, blue  moon ,,star\nmoon") == ("moon", "blue  moon", "star")


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
CONVERSATIONS = st.lists(st.tuples(TEXTS.filter(str.strip), st.one_of(TEXTS, st.just(""), st.just("\r\x07\n"))))
WORDS = st.lists(TEXTS.map(lambda text: text.replace(",", "").strip()).filter(bool), max_size=4, unique=True).map(tuple)


@given(
    prompt=TEXTS.filter(str.strip),
    bags=st.lists(st.sampled_from(["space", "legal"]), max_size=3).map(tuple),
    words=WORDS,
    avoid_words=WORDS,
    seeds=WORDS,
    strength=st.floats(0, 1),
    samples=st.integers(1, 4),
    seed=st.integers(0, 2**31 - 1),
    length=st.integers(1, 200),
    talk=st.one_of(st.none(), CONVERSATIONS.map(lambda pairs: tuple(chain.from_iterable(pairs[:4])))),
)
def test_a_link_restores_every_setting(talk, **settings):
    request = PageRequest(chat=talk is not None, conversation=talk or (), **settings)
    query = query_of(request)
    assert request_of(parse_qsl(query, keep_blank_values=True)) == request
    assert set(query) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~%+=&")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("prompt=a&model=/etc/passwd", "the link sets 'model', which is not a setting of the page"),
        ("prompt=a&prompt=b", "the link sets prompt twice"),
        ("strength=strong", "strength must be a number; got 'strong'"),
        ("samples=1.5", "samples must be a number"),
        ("samples=99", "samples must be at most 4"),
        ("chat=yes", "chat must be 0 or 1"),
        ("chat=1&conversation=Hi", "a list of messages, each followed by its answer"),
        ("conversation=Hi&conversation=Hello", "a conversation belongs to a chat"),
        ("prompt=" + "a" * 8001, "longer than 8000 characters"),
        ("__class__=a", "which is not a setting of the page"),
    ],
)
def test_a_link_that_asks_for_what_the_page_has_not_is_refused(query, message):
    with pytest.raises(InputError) as caught:
        request_of(parse_qsl(query))
    assert message in str(caught.value)


def test_a_request_too_long_for_a_link_has_none():
    for request in (
        PageRequest(prompt="🌒" * 1000),
        PageRequest(chat=True, conversation=("Why?", "ä" * 1000, "And?", "ö" * 1000)),
    ):
        with pytest.raises(InputError, match="at most 8000 characters"):
            query_of(request)


def parsed(command):
    """Return the settings of `pplm generate` that a command line gives, as click reads them."""
    words = shlex.split(command)
    assert words[:2] == ["pplm", "generate"]
    return pplm.commands["generate"].make_context("generate", words[2:]).params


def test_the_command_gives_every_setting_and_nothing_in_it_runs():
    found = parsed(as_command(SERVED, FULL))
    assert found["prompts"] == (FULL.prompt,)
    assert (found["bags"], found["avoid_bags"]) == (("space", "legal"), ("military",))
    assert (found["words"], found["avoid_words"], found["bag_from"]) == (
        ("blue moon,it's",),
        ("$(id)",),
        ("moon,star",),
    )
    assert found["discriminators"] == ("sentiment:positive",)
    assert (found["strength"], found["num_samples"], found["unsteered_samples"]) == (0.35, 3, 3)
    assert (found["seed"], found["max_new_tokens"]) == (7, 20)


def test_a_shell_takes_the_command_as_it_stands(tmp_path):
    stub = tmp_path / "pplm"
    stub.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    stub.chmod(0o755)
    done = subprocess.run(  # noqa: S603
        ["/bin/bash", "-c", as_command(SERVED, FULL)], cwd=tmp_path, env={"PATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split("\0")[-2] == FULL.prompt
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == [stub]


def test_a_chat_is_a_chat_in_the_command():
    found = parsed(as_command(SERVED, PageRequest(prompt="Hello", chat=True, system="--brief")))
    assert (found["chat"], found["system"], found["prompts"]) == (True, "--brief", ("Hello",))


TALK = PageRequest(
    prompt=NASTY, chat=True, system="--brief", conversation=(NASTY, "It's\t\x1b[201~ \u202e$(id)\n", "Häuser?", "")
)
SAID = [
    {"role": "system", "content": "--brief"},
    *[{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, TALK.conversation, strict=True)],
    {"role": "user", "content": NASTY},
]


def test_a_conversation_is_a_file_in_the_command_and_nothing_in_it_runs_or_acts_on_a_terminal(tmp_path):
    stub = tmp_path / "pplm"
    stub.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    stub.chmod(0o755)
    command = as_command(SERVED, TALK)
    assert command.isascii()
    assert all(letter.isprintable() for letter in command.replace("\n", ""))
    done = subprocess.run(  # noqa: S603
        ["/bin/bash", "-c", command], cwd=tmp_path, env={"PATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    found = parsed(command.rpartition("\n")[2])
    assert (found["messages_file"], found["chat"], found["system"], found["prompts"]) == (
        Path("conversation.jsonl"), False, None, (),
    )  # fmt: skip
    (messages,) = read_conversations(tmp_path / "conversation.jsonl")
    assert messages == SAID


def test_a_conversation_is_a_list_of_messages_in_the_program():
    (said,) = [
        node.value
        for node in ast.walk(ast.parse(as_python(SERVED, TALK)))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "prompt"
    ]
    assert ast.literal_eval(said) == SAID


def test_the_program_holds_values_as_literals_alone():
    tree = ast.parse(as_python(SERVED, FULL))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {FULL.prompt, "space", "blue moon", "it's", "$(id)", 0.35, 7} <= texts
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert calls == {
        "pplm.load_model", "dict", "pplm.generate", "BagOfWords.load", "BagOfWords.from_words", "BagOfWords.from_seeds",
        "Avoid", "Discriminator.load", "pplm.SteeringConfig.for_attributes", "pplm.steering_presets", "print",
    }  # fmt: skip


def test_a_list_of_the_operators_travels_with_its_words_and_not_its_path(tmp_path):
    path = tmp_path / "secret place" / "list.txt"
    path.parent.mkdir()
    path.write_text("soup\t2.0\nsea salt\n", encoding="utf-8")
    served = SimpleNamespace(
        name="gpt2-mini", options={}, known=KnownNames.shipped().with_bag("my lists/cooking", path)
    )
    request = PageRequest(bags=("my lists/cooking",))
    first, last = as_command(served, request).split("\n")
    assert parsed(last)["bags"] == ("./my_lists_cooking.txt",)
    subprocess.run(["sh", "-c", first], cwd=tmp_path, check=True)  # noqa: S603, S607
    assert (tmp_path / "my_lists_cooking.txt").read_text(encoding="utf-8") == "soup\t2.0\nsea salt\t1.0\n"
    assert first.isprintable()  # a tab that is pasted into a shell would complete a word
    assert "from_words({'soup': 2.0, 'sea salt': 1.0}, tokenizer, name='my lists/cooking')" in as_python(
        served, request
    )
    assert "secret" not in as_command(served, request) + as_python(served, request)


def test_lists_of_the_operators_whose_names_are_alike_travel_in_files_of_their_own(tmp_path):
    known = KnownNames.shipped()
    for name, word in (("my list", "moon"), ("my_list", "sea"), ("海", "lake"), ("月", "star")):
        path = tmp_path / f"{word}.txt"
        path.write_text(word, encoding="utf-8")
        known = known.with_bag(name, path)
    served = SimpleNamespace(name="gpt2-mini", options={}, known=known)
    request = PageRequest(bags=("my list", "my_list", "海"), avoid_bags=("月", "my list"))
    *files, _ = as_command(served, request).split("\n")
    assert len({line.rpartition(" > ")[2] for line in files}) == len(files) == 4


def test_what_the_model_was_loaded_with_is_in_both_copies():
    served = SimpleNamespace(name="smollm2", options={"dtype": "bfloat16"}, known=KnownNames.shipped())
    assert shlex.split(as_command(served, PageRequest()))[2:6] == ["--model", "smollm2", "--dtype", "bfloat16"]
    assert "pplm.load_model('smollm2', dtype='bfloat16')" in as_python(served, PageRequest())


@pytest.mark.parametrize("field", ["bags", "avoid_bags", "words", "avoid_words", "seeds", "heads"])
def test_the_program_imports_what_it_uses_and_nothing_else(field):
    tree = ast.parse(as_python(SERVED, PageRequest(**{field: getattr(FULL, field)})))
    imported = {one.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for one in node.names}
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported == named & {"Avoid", "BagOfWords", "Discriminator"} != set()


@pytest.mark.parametrize("request_", [PageRequest(), FULL], ids=["plain", "full"])
def test_the_program_can_be_read_by_python(request_):
    compile(as_python(SERVED, request_), "copy", "exec")


def test_the_files_that_a_space_needs_are_those_of_the_docs():
    root = Path(__file__).parent.parent
    docs = (root / "docs/web.md").read_text(encoding="utf-8")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = re.search(r"^```text\n(.*?)^```$", docs, flags=re.MULTILINE | re.DOTALL).group(1).split()
    assert needed == [*project["dependencies"], *project["optional-dependencies"]["web"]]
    pins = (root / "constraints.txt").read_text(encoding="utf-8")
    assert f"gradio=={re.search(r'^sdk_version: (.*)$', docs, flags=re.MULTILINE).group(1)}\n" in pins
    assert "app_file: app.py" in docs
    assert (root / "app.py").is_file()
