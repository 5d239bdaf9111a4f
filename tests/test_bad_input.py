"""Bad input, row by row: it works as the clean form does, warns, or is refused in one line and leaves nothing."""

import json
import re
import warnings

import pytest
import torch
from bad_files import TABLES
from bad_input import ROWS, Row

import pplm
from attribute_models import Discriminator

USUAL = {
    "generate": {"--model": "tiny", "--bag": "sky.txt", "--seed": "0", "--max-new-tokens": "3", "--num-samples": "1",
                 "--output": "out.jsonl"},
    "score": {"--csv": "out.csv"},
    "train-discriminator": {"--model": "tiny", "--output": "head"},
    "tune": {"--model": "tiny", "--bag": "sky.txt", "--output": "tuned", "--texts": "1"},
    "train-base": {"--output": "base", "--steps": "1"},
}  # fmt: skip
"""The options of a command that a row has not given."""
IN_PLACE = {
    "--bag": ("--bag", "--avoid-bag", "--bag-from", "--discriminator"),
    "--num-samples": ("--num-samples", "--greedy"),
}
"""Options any of which takes the place of a usual one."""


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, gpt2, tokenizer):
    """The tiny GPT-2 as files."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    gpt2.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, gpt2, tokenizer, model_folder):
    """Work in a folder with a bag, a head and a model; --model tiny is the same model without loading it."""
    load = pplm.load_model
    monkeypatch.setattr(
        "pplm.models.loading.load_model",
        lambda name, **options: (gpt2, tokenizer) if name == "tiny" else load(name, **options),
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sky.txt").write_text("moon\nstar\n", encoding="utf-8")
    (tmp_path / "tuned").mkdir()
    (tmp_path / "model").symlink_to(model_folder)
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    Discriminator.from_weights(weight, torch.zeros(2), ["bad", "good"]).save(tmp_path / "taste")
    return tmp_path


def typed(row: Row, words: tuple[str, ...]) -> list[str]:
    """Return the whole command of a row: its words, and the usual ones that they do not replace."""
    usual = [
        part
        for name, value in USUAL.get(row.command, {}).items()
        if not set(IN_PLACE.get(name, (name,))) & set(words)
        for part in (name, value)
    ]
    prompts = [] if row.command != "generate" or words[:1] == ("PROMPT",) else ["The lake"]
    return [row.command, *prompts, *usual, *(words[1:] if words[:1] == ("PROMPT",) else words)]


def held(folder) -> dict[str, bytes | None]:
    """Return what a folder holds, files with their content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def texts(folder) -> list[tuple[str, str]]:
    """Return prompt and text of every line that was written, and remove the file."""
    path = folder / "out.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.unlink()
    return [(record["prompt"], record["text"]) for record in records]


def check(row: Row, command, place) -> None:
    """Run a row and compare with what is wanted."""
    for name, content in row.files.items():
        (place / name).write_bytes(content) if isinstance(content, bytes) else content(place / name)
    before = held(place)
    with warnings.catch_warnings(record=row.wanted == "warns") as caught:
        if row.wanted == "warns":
            warnings.simplefilter("always", pplm.SteeringWarning)
        code, out, err = command(*typed(row, row.words))
    if row.wanted == "refused":
        *before_it, line = err.splitlines()
        assert code == 2
        assert line.startswith("Error: ")
        assert re.search(row.says, line), line
        assert line.isprintable()
        assert row.late or (out, before_it) == ("", []), err
        assert held(place) == before
        return
    assert code == 0, err
    assert "Error" not in err
    found = texts(place)
    assert found
    assert all(text.startswith(prompt) for prompt, text in found)
    if row.wanted == "warns":
        lines = [*(str(warning.message) for warning in caught), *err.splitlines()]
        assert any(re.search(row.says, line) for line in lines), lines
    if row.clean is not None:
        assert command(*typed(row, row.clean))[0] == 0
        assert [text for _, text in texts(place)] == [text for _, text in found]
    prompts = [word for word in row.words[1:] if word != "--"] if row.words[:1] == ("PROMPT",) else ["The lake"]
    assert [prompt for prompt, _ in found][:: len(found) // len(prompts)] == prompts


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{kind}: {row.name[:60]}", marks=[pytest.mark.slow] if row.slow else [])
        for kind, rows in {**ROWS, **TABLES}.items()
        for row in rows
    ],
)
def test_bad_input_works_warns_or_is_refused_in_one_line(row, command, place):
    check(row, command, place)
