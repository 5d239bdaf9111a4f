"""`pplm generate --trace`: from the command to the file that is looked at."""

import json
import re
import shlex
from pathlib import Path

import pytest
from browser import axe_findings
from test_trace_page_browser import numbers_of, shown_numbers

from pplm.jobs import running

DOCS = (Path(__file__).parent.parent / "docs" / "trace.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.usefixtures("chat_model")
TINY = ("--model", "tiny", "--words", "moon,star", "--strength", "0.8", "--max-new-tokens", "6")


def embedded_in(page):
    """Return the document that a page holds."""
    return json.loads(re.search(r'<script type="application/json" id="trace">(.*?)</script>', page, re.DOTALL)[1])


def without_seconds(document):
    for text in document["texts"]:
        for token in text["tokens"]:
            assert token.pop("seconds") > 0
    return {name: value for name, value in document.items() if name != "command"}


def test_each_steered_text_stands_beside_the_unsteered_one_of_its_random_numbers(command, tmp_path):
    trace, lines = tmp_path / "trace.json", tmp_path / "texts.jsonl"
    prompts = ("The sea", "Cats are")
    code, shown, _ = command("generate", *prompts, *TINY, "--num-samples", 2, "--seed", 3, "--trace", trace,
                             "--output", lines)  # fmt: skip
    assert code == 0
    document = json.loads(trace.read_text())
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(text["prompt_index"], text["sample"], text["steered"]) for text in document["texts"]] == [
        (prompt, sample, steered) for prompt in (0, 1) for steered in (False, True) for sample in (0, 1)
    ]
    assert shown.count("[unsteered 2]") == 2
    for text, record in zip(document["texts"], records, strict=True):
        assert {name: text[name] for name in ("prompt", "text", "completion", "seed")} == {
            name: record[name] for name in ("prompt", "text", "completion", "seed")
        }
        assert [token["token_id"] for token in text["tokens"]] == record["token_ids"]
        assert "details" not in record
        assert all(token["levels"]["words"]["gain"] == 0 for token in text["tokens"]) is not text["steered"]
    assert document["steering"] == records[-1]["steering"]
    assert document["attributes"] == [
        {"name": "words", "kind": "bag_of_words", "weight": 1.0, "avoids": False, "words": ["moon", "star"],
         "label": None}
    ]  # fmt: skip


def test_a_trace_changes_no_text_that_is_shown(command, tmp_path):
    arguments = ("generate", "The sea", *TINY, "--num-samples", 2, "--unsteered-samples", 2, "--seed", 3)
    plain, traced = (command(*arguments, *more)[1] for more in ((), ("--trace", tmp_path / "trace.html")))
    assert plain == traced


def test_the_page_holds_what_the_json_holds(command, tmp_path):
    page, trace = tmp_path / "trace.html", tmp_path / "trace.JSON"
    for path in (page, trace):
        assert command("generate", "The sea", *TINY, "--seed", 3, "--trace", path)[0] == 0
    document, shown = json.loads(trace.read_text()), embedded_in(page.read_text(encoding="utf-8"))
    assert without_seconds(shown) == without_seconds(document)


def test_its_command_makes_the_same_texts_with_the_seed_that_was_drawn(command, tmp_path):
    first, second = tmp_path / "a b.json", tmp_path / "second.json"
    odd = "$(id) 'quoted' \"sea\""
    assert command("generate", *TINY, "--trace", first, "--", odd)[0] == 0
    document = json.loads(first.read_text())
    parts = shlex.split(document["command"])
    assert parts[:2] == ["pplm", "generate"]
    assert parts[-1] == odd
    again = [str(second) if part == str(first) else part for part in parts[1:]]
    assert command(*again)[0] == 0
    assert without_seconds(json.loads(second.read_text())) == without_seconds(document)


def test_a_seed_that_was_given_is_not_given_twice(command, tmp_path):
    path = tmp_path / "trace.json"
    command("generate", "The sea", *TINY, "--seed", 3, "--trace", path)
    assert json.loads(path.read_text())["command"].count("--seed") == 1


def test_chats_and_what_is_avoided_are_traced(command, tmp_path):
    path = tmp_path / "trace.json"
    code, _, error = command("generate", "Who?", "--chat", *TINY, "--avoid-words", "sea", "--seed", 3, "--trace", path)
    assert code == 0, error
    document = json.loads(path.read_text())
    assert [(own["avoids"], own["words"]) for own in document["attributes"]] == [
        (False, ["moon", "star"]),
        (True, ["sea"]),
    ]
    names = {own["name"] for own in document["attributes"]}
    assert all(set(token["levels"]) == names for text in document["texts"] for token in text["tokens"])


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--trace", "out.txt"), "--trace out.txt must end in .html (a page) or .json; got '.txt'"),
        (("--trace", "out"), "--trace out must end in .html (a page) or .json; got 'no ending'"),
        (("--trace", "a.html", "--rerank", "2"), "add --no-unsteered, or leave out --rerank 2"),
        (("--trace", "a.json", "--output", "a.json"), "--trace and --output both name a.json"),
        (("--trace", "no/a.json"), "the folder no does not exist; make it first"),
        (("--trace", "there.json"), "--trace there.json exists; add --overwrite to replace it, or name another file"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(command, tmp_path, monkeypatch, more, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("mine")
    code, shown, error = command("generate", "The sea", *TINY, *more)
    assert (code, shown) == (2, "")
    assert complaint in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    assert (tmp_path / "there.json").read_text() == "mine"


def test_long_jobs_are_not_traced(command, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The sea\n")
    code, _, error = command("generate", "--prompts-file", prompts, *TINY, "--trace", tmp_path / "a.json")
    assert code == 2
    assert "leave out --prompts-file" in error


def test_the_best_of_several_is_traced_alone(command, tmp_path):
    path = tmp_path / "trace.json"
    code, _, error = command("generate", "The sea", *TINY, "--rerank", 2, "--no-unsteered", "--trace", path)
    assert code == 0, error
    assert all(text["steered"] for text in json.loads(path.read_text())["texts"])


def test_without_attributes_there_is_a_trace_all_the_same(command, tmp_path):
    path = tmp_path / "trace.html"
    code, _, _ = command("generate", "The sea", "--model", "tiny", "--max-new-tokens", 3, "--trace", path)
    assert code == 0
    document = embedded_in(path.read_text(encoding="utf-8"))
    assert document["attributes"] == []
    assert not any(text["steered"] for text in document["texts"])


def test_an_interrupted_command_writes_no_trace(command, tmp_path, monkeypatch):
    generate, calls = running.generate_unjudged, []

    def interrupted(*arguments, **options):
        calls.append(options["watching"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    monkeypatch.setattr(running, "generate_unjudged", interrupted)
    code, _, _ = command("generate", "The sea", *TINY, "--trace", tmp_path / "trace.html")
    assert code == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_of_a_real_run_shows_its_numbers(command, tmp_path, visitor):
    path = tmp_path / "trace.html"
    arguments = ("--bag", "space", "--discriminator", "sentiment:positive", "--max-new-tokens", 12, "--num-samples", 2)
    code, shown, error = command("generate", "The lake", *arguments, "--seed", 3, "--trace", path)
    assert code == 0, error
    document = embedded_in(path.read_text(encoding="utf-8"))
    page = visitor().open(path)
    for number in (2, 0):
        for place, token in enumerate(document["texts"][number]["tokens"]):
            page.locator(f".text[data-text='{number}'] .token").nth(place).hover()
            assert shown_numbers(page) == numbers_of(token)
    assert " ".join(page.locator(".text[data-text='2']").inner_text().split()) in " ".join(shown.split())
    assert "pplm generate 'The lake'" in page.locator("#command").inner_text()
    assert axe_findings(page) == []


def fields_of(value):
    """Return the names of all fields; the names of attributes and settings are none."""
    if isinstance(value, list):
        return set().union(*map(fields_of, value))
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, item in value.items():
        named = list(item.values()) if name == "levels" else item
        found |= {name} | (set() if name == "steering" else fields_of(named))
    return found


def test_every_field_is_documented(command, tmp_path):
    path = tmp_path / "trace.json"
    command("generate", "The sea", *TINY, "--seed", 3, "--trace", path)
    names = fields_of(json.loads(path.read_text()))
    assert len(names) > 25
    tables = DOCS.split("## The fields of the JSON")[1]
    assert [name for name in sorted(names) if f"`{name}`" not in tables] == []
