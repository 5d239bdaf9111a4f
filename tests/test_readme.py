"""The README's own commands and blocks, run as they stand."""

import re
import shlex
from pathlib import Path

import pytest

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


def test_the_python_of_the_readme_runs_block_after_block(capsys):
    names = {}
    for block in blocks("python"):
        if "pplm.sine.wave" not in block:  # run and compared with the library in test_sine
            exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    assert len(names["texts"]) == 8
    assert names["texts"][0].text in capsys.readouterr().out
    assert names["output"].shape[1] > names["inputs"]["input_ids"].shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("line", OFFLINE)
def test_a_command_of_the_readme_runs(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my_words.txt").write_text("boat\nwater\nblack hole\n", encoding="utf-8")
    Path("texts.jsonl").write_text(TEXTS, encoding="utf-8")
    main(shlex.split(line)[1:])  # returns only where all is well
    assert capsys.readouterr().out.strip()


def test_the_readme_names_real_commands_and_shipped_lists():
    assert len(OFFLINE) >= 5
    lists = sorted((Path(__file__).parent.parent / "data" / "bags_of_words").glob("*.txt"))
    assert len(lists) == 12
    assert all(re.search(rf"\b{path.stem}\b", README) for path in lists)
