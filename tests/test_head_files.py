"""A head's folder: saved whole or not at all, loaded as it was, refused where something is wrong."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import tiny_model, tiny_tokenizer

import pplm
from attribute_models import Discriminator, classify_texts
from pplm import InputError
from pplm.files.atomic import atomic_folder
from pplm.models.fingerprint import public_name, same_weights, weight_hashes


def head(card=None):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(2, 16, generator=generator), torch.randn(2, generator=generator)
    return Discriminator(weight, bias, ("très bien", "pas du tout"), card=card or {})


def card_of(model):
    return {"base_model": {"name": "their-model", "weights": weight_hashes(model)}}


def test_a_saved_head_is_the_same_head_when_loaded(tmp_path):
    saved = head({"metrics": {"accuracy": 0.5}})
    saved.save(tmp_path / "new" / "mood")
    loaded = Discriminator.load(tmp_path / "new" / "mood", "très bien")
    assert torch.equal(loaded.weight, saved.weight)
    assert torch.equal(loaded.bias, saved.bias)
    assert (loaded.labels, loaded.label, loaded.name) == (saved.labels, "très bien", "mood")
    assert loaded.card["metrics"] == {"accuracy": 0.5}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mood"]


def test_numbers_of_numpy_are_taken_and_saved_like_python_s(tmp_path):
    head({"settings": {"seed": np.int64(3), "test_fraction": np.float32(0.5)}}).save(tmp_path / "mood")
    assert Discriminator.load(tmp_path / "mood").card["settings"] == {"seed": 3, "test_fraction": 0.5}
    assert Discriminator.from_weights(torch.eye(2), torch.zeros(2), ["a", "b"], np.int64(1)).label == "b"


def test_a_head_is_replaced_but_nothing_else_is(tmp_path):
    head().save(tmp_path / "mood")
    head({"second": True}).save(tmp_path / "mood")
    assert Discriminator.load(tmp_path / "mood").card["second"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("Years of work.")
    with pytest.raises(pplm.InputError, match=r"chapter\.txt"):
        head().save(tmp_path / "thesis")
    with pytest.raises(pplm.InputError, match="is a file"):
        head().save(tmp_path / "thesis" / "chapter.txt")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "Years of work."


def write_half(folder, error):
    with atomic_folder(folder, ("head.safetensors", "card.json")) as new:
        (new / "card.json").write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_folder_and_no_other(tmp_path, error):
    head({"first": True}).save(tmp_path / "mood")
    for name in ("mood", "other"):
        with pytest.raises(error):
            write_half(tmp_path / name, error)
    assert Discriminator.load(tmp_path / "mood").card["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["mood"]


def test_a_folder_that_cannot_be_put_in_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    head({"first": True}).save(tmp_path / "mood")
    rename = Path.rename

    def fails_for_new(path, target):
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_new)
    with pytest.raises(OSError, match="No space"):
        head({"second": True}).save(tmp_path / "mood")
    assert Discriminator.load(tmp_path / "mood").card["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["mood"]


def cut_weights(folder):
    path = folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:60])


def cut_card(folder):
    (folder / "card.json").write_text('{"labels": ["a",')


def drop_bias(folder):
    save_file({"weight": load_file(folder / "head.safetensors")["weight"]}, folder / "head.safetensors")


def not_a_number(folder):
    save_file({"weight": torch.full((2, 16), torch.nan), "bias": torch.zeros(2)}, folder / "head.safetensors")


def lose_card(folder):
    (folder / "card.json").unlink()


def third_label(folder):
    (folder / "card.json").write_text(json.dumps({"labels": ["a", "b", "c"]}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, "damaged"),
        (cut_card, "damaged"),
        (drop_bias, "lacks 'bias'"),
        (not_a_number, "not finite"),
        (lose_card, "cannot be read"),
        (third_label, "3 labels need"),
    ],
)
def test_damaged_heads_are_told(tmp_path, damage, message):
    head().save(tmp_path / "mood")
    damage(tmp_path / "mood")
    with pytest.raises(pplm.InputError, match=message):
        Discriminator.load(tmp_path / "mood")


def test_published_heads_load_with_labels(tmp_path):
    weight, bias = torch.randn(3, 16), torch.randn(3)
    torch.save({"mlp.weight": weight, "mlp.bias": bias}, tmp_path / "SST.pt")
    loaded = Discriminator.from_pt(tmp_path / "SST.pt", ["a", "b", "c"], "b")
    assert torch.equal(loaded.weight, weight)
    assert torch.equal(loaded.bias, bias)
    assert (loaded.labels, loaded.label, loaded.name) == (("a", "b", "c"), "b", "SST")
    with pytest.raises(pplm.InputError, match="2 labels need"):
        Discriminator.from_pt(tmp_path / "SST.pt", ["a", "b"])
    with pytest.raises(pplm.InputError, match="3 classes without names"):
        Discriminator.from_pt(tmp_path / "SST.pt", [])


class Payload:
    def __reduce__(self):
        return (print, ("code from a file ran",))


def test_files_that_are_no_published_head_are_told_and_no_code_is_run(tmp_path, capsys):
    torch.save({"mlp.weight": Payload()}, tmp_path / "code.pt")
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as file:
        file.writestr("a", "b")
    messages = {"code": "damaged or not", "other": "no mlp.weight", "text": "damaged or not", "zip": "damaged or not"}
    for name, message in messages.items():
        with pytest.raises(pplm.InputError, match=message):
            Discriminator.from_pt(tmp_path / f"{name}.pt", ["a", "b"])
    with pytest.raises(pplm.InputError, match="cannot be read"):
        Discriminator.from_pt(tmp_path / "none.pt", ["a", "b"])
    assert "ran" not in capsys.readouterr().out


def test_another_base_model_is_refused_with_both_names_before_anything_is_generated(tmp_path):
    model, other = tiny_model(), tiny_model(seed=1)
    head(card_of(other)).save(tmp_path / "mood")
    loaded = Discriminator.load(tmp_path / "mood", "très bien")
    arguments = {"max_new_tokens": 2, "do_sample": False}
    with pytest.raises(pplm.InputError, match=r"their-model.* this model is .*any_model"):
        pplm.generate(model, tiny_tokenizer(), "the view", attributes=[loaded], **arguments)
    pplm.generate(other, tiny_tokenizer(), "the view", attributes=[loaded], **arguments)
    forced = Discriminator.load(tmp_path / "mood", "très bien", any_model=True)
    pplm.generate(model, tiny_tokenizer(), "the view", attributes=[forced], **arguments)


def test_a_head_without_a_card_is_checked_for_its_width_alone():
    head().for_model(tiny_model())
    wide = Discriminator.from_weights(torch.zeros(2, 17), torch.zeros(2), ["a", "b"])
    with pytest.raises(pplm.InputError, match=r"width 17; those of .* are 16 wide"):
        wide.for_model(tiny_model())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_is_recognised_in_another_number_format_and_not_after_a_change(dtype):
    hashes = weight_hashes(tiny_model())
    assert same_weights(hashes, weight_hashes(tiny_model().to(dtype)))
    assert same_weights(weight_hashes(tiny_model().to(dtype)), hashes)
    assert not same_weights(hashes, weight_hashes(tiny_model(seed=1).to(dtype)))
    tuned = tiny_model()
    tuned.transformer.h[1].mlp.c_proj.weight.mul_(1.01)
    assert not same_weights(hashes, weight_hashes(tuned.to(dtype)))


def test_a_public_name_names_no_place(tmp_path):
    model = tiny_model()
    model.config.name_or_path = str(tmp_path)
    assert public_name(model) == tmp_path.name
    model.config.name_or_path = "openai-community/gpt2-medium"
    assert public_name(model) == "openai-community/gpt2-medium"


@pytest.mark.parametrize(
    ("name", "label", "text"),
    [
        ("sentiment", "positive", "A warm, funny and deeply moving film."),
        ("sentiment", "negative", "A dull mess without a single good idea."),
        ("clickbait", "clickbait", "17 Things You Will Only Understand If You Grew Up In The Nineties"),
        ("clickbait", "news", "Parliament passes budget after two days of debate"),
        ("subjectivity", "subjective", "the script is clever and the acting is a delight ."),
        ("subjectivity", "objective", "he returns to the village to find his brother , who has joined the army ."),
    ],
)
def test_shipped_heads_fit_the_embedded_model_and_know_plain_cases(name, label, text):
    model, tokenizer = pplm.load_model()
    shipped = Discriminator.load(name)
    (probabilities,) = classify_texts(model, tokenizer, shipped, [text])
    assert shipped.labels[int(probabilities.argmax())] == label
    assert shipped.card["data"]["citation"]


def test_a_folder_of_that_name_hides_a_shipped_head_only_if_it_holds_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = Discriminator.load("sentiment")
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment/report.md").write_text("an evaluation's")  # as --output sentiment leaves it
    assert torch.equal(Discriminator.load("sentiment").weight, shipped.weight)
    (tmp_path / "sentiment/report.md").unlink()
    own = Discriminator.from_weights(torch.zeros(2, 4), torch.zeros(2), ["a", "b"])
    own.save(tmp_path / "sentiment")
    assert Discriminator.load("sentiment").labels == ("a", "b")


# --- mean hidden states of the classes ---------------------------------------------------------------------------


def test_class_means_travel_with_the_head_and_a_head_without_them_stays_loadable(tmp_path):
    means = torch.randn(2, 3, 16)
    replace(head(), class_means=means).save(tmp_path / "with")
    head().save(tmp_path / "without")
    loaded = Discriminator.load(tmp_path / "with", "très bien")
    assert torch.equal(loaded.class_means, means)
    assert torch.equal(loaded.steering_vectors(), means[0] - means[1])
    assert torch.equal(loaded.towards("pas du tout").steering_vectors(), means[1] - means[0])
    bare = Discriminator.load(tmp_path / "without", "très bien")
    assert bare.class_means is None
    with pytest.raises(InputError, match=r"without holds no mean hidden states .* pplm train-discriminator DATA"):
        bare.steering_vectors()
    bare.save(tmp_path / "with")
    assert not (tmp_path / "with" / "class_means.safetensors").exists()


def test_the_refusal_names_the_data_and_the_model_of_the_card():
    bare = replace(head({"base_model": {"name": "m"}, "data": {"source": "d.csv"}}), label="très bien")
    with pytest.raises(InputError, match=r"pplm train-discriminator d\.csv --model m --output DIR"):
        bare.steering_vectors()


def test_class_means_that_do_not_fit_or_are_damaged_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"class_means must be \(2, L, 16\); got \(2, 3, 8\)"):
        replace(head(), class_means=torch.zeros(2, 3, 8))
    replace(head(), class_means=torch.zeros(2, 3, 16)).save(tmp_path / "mood")
    (tmp_path / "mood" / "class_means.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match=r"class_means\.safetensors is damaged .*train or copy the head again"):
        Discriminator.load(tmp_path / "mood")


def test_the_shipped_heads_hold_vectors_of_every_layer():
    for name in ("sentiment", "clickbait", "subjectivity"):
        family = Discriminator.load(name)
        for one in (family, *family.others):
            layers = {"gpt2-mini": 6, "smollm2": 30}[one.card["base_model"]["name"]]
            assert one.class_means.shape == (2, layers, one.weight.shape[1])
