"""A folder of heads, one for each language model, is a family as a shipped name is."""

import json
import shutil

import pytest
import torch

from attribute_models import Discriminator
from pplm import InputError
from pplm.models.fingerprint import identity
from pplm.models.resources import data_path

SHIPPED = data_path("discriminators", "sentiment")


@pytest.fixture
def moods(tmp_path, gpt2):
    """A folder with heads for the tiny model and for SmolLM2."""
    folder = tmp_path / "moods"
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    card = {"base_model": {**identity(gpt2), "name": "tiny"}}
    Discriminator(weight, torch.zeros(2), ("negative", "positive"), card=card).save(folder / "tiny")
    shutil.copytree(SHIPPED / "smollm2", folder / "smollm2")
    (folder / "notes").mkdir()  # no head, so of no interest
    (folder / "notes.txt").write_text("ours")
    return folder


def change_card(folder, **fields):
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_folder_of_a_shipped_family_is_the_shipped_family():
    by_name, by_path = Discriminator.load("sentiment", "positive"), Discriminator.load(SHIPPED, "positive")
    assert (by_path.name, by_path.label, len(by_path.others)) == ("sentiment", "positive", len(by_name.others))
    for one, other in zip((by_name, *by_name.others), (by_path, *by_path.others), strict=True):
        assert torch.equal(one.weight, other.weight)


def test_every_command_takes_a_folder_of_heads(command, monkeypatch, moods, gpt2, tokenizer):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: (gpt2, tokenizer))
    settings = ("--greedy", "--no-unsteered", "--max-new-tokens", 1)
    code, _, err = command("generate", "the", "--discriminator", f"{moods}:positive:0.5", *settings)
    assert code == 0, err
    code, out, err = command("classify", "the sea", "--discriminator", moods)
    assert (code, err) == (0, "")
    assert out.startswith(("negative 0.", "positive 0."))


def test_a_folder_of_heads_hides_a_shipped_family_of_its_name(moods, monkeypatch):
    monkeypatch.chdir(moods.parent)
    moods.rename("sentiment")
    names = [head.card["base_model"]["name"] for head in Discriminator.load("sentiment").others]
    assert names == ["tiny"]  # beside smollm2, which comes before it


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["positive", "negative"]}, r"labels of .*tiny are positive, negative, those of .*smollm2 are neg"),
        ({"base_model": {}}, r"tiny.card.json does not name the model that its head was trained on"),
    ],
)
def test_heads_that_make_no_family_are_refused_with_the_folder(moods, fields, message):
    change_card(moods / "tiny", **fields)
    with pytest.raises(InputError, match=message):
        Discriminator.load(moods)


def test_a_folder_without_any_head_is_refused_with_what_it_lacks(tmp_path, command):
    (tmp_path / "sub").mkdir()
    for arguments in (("generate", "The sea", "--discriminator", f"{tmp_path}:positive"),
                      ("classify", "The sea", "--discriminator", tmp_path)):  # fmt: skip
        code, _, err = command(*arguments)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert "it holds no head (card.json and head.safetensors), nor folders that each hold one" in err


def test_a_head_is_shown_by_what_it_is_for():
    shown = repr(Discriminator.load("sentiment", "positive"))
    labels = "labels negative, positive, label positive"
    assert shown == f"Discriminator('sentiment', {labels}, width 320, trained on gpt2-mini, smollm2)"
    plain = Discriminator.from_weights(torch.zeros(2, 4), torch.zeros(2), ["a", "b"])
    assert repr(plain) == "Discriminator('discriminator', labels a, b, label None, width 4)"
