"""A shipped name is a family of heads: which of them a language model takes."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_training import tiny_model, tiny_tokenizer

from attribute_models import Avoid, Discriminator, classify_texts
from pplm import InputError, SteeringWarning
from pplm.models.fingerprint import identity


def head(model, *, width=16, **given):
    """Return a head of two classes that was trained on a model, by its card; its weights tell it from others."""
    weight = torch.full((2, width), float(len(given)))
    card = {"base_model": {**identity(model), "name": given.pop("model_name", "their-model"), "width": width}}
    return Discriminator(weight, torch.tensor([0.0, 1.0]), ("no", "yes"), name="mood", card=card, **given)


@pytest.fixture(scope="module")
def ours():
    return tiny_model()


@pytest.fixture(scope="module")
def theirs():
    """Another model, trained: its vectors are its own too."""
    model = tiny_model(seed=1)
    for parameter in model.parameters():
        parameter.data += 0.01
    return model


def in_other_numbers(model):
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        if parameter.dim() > 1:
            parameter.data = (parameter.data * 32).round() / 32
    return copied


def family(ours, theirs, **given):
    return replace(head(theirs, **given), others=(head(ours, model_name="our-model", **given),))


@pytest.mark.parametrize("wrap", [lambda head: head, Avoid])
def test_a_family_gives_every_model_the_head_that_was_trained_on_it(ours, theirs, wrap):
    wanted = family(ours, theirs).towards("yes")
    for model, name in ((ours, "our-model"), (theirs, "their-model")):
        found = wrap(wanted).for_model(model)
        found = found.attribute if isinstance(found, Avoid) else found
        assert found.card["base_model"]["name"] == name
        assert (found.label, found.name, found.others) == ("yes", "mood", ())


def test_the_same_model_in_other_numbers_takes_its_head_and_is_told(ours, theirs):
    with pytest.warns(
        SteeringWarning, match=r"mood was made on our-model, used for .*, which has the same norms and biases but other"
    ):
        found = family(ours, theirs).for_model(in_other_numbers(ours))
    assert found.card["base_model"]["name"] == "our-model"


def test_where_no_head_fits_the_models_that_have_one_are_listed(ours, theirs):
    stranger = copy.deepcopy(theirs)
    for parameter in stranger.parameters():
        parameter.data *= 1.5
    with pytest.raises(InputError, match=r"mood has no head for .*, only for their-model, our-model;"):
        family(ours, theirs).for_model(stranger)


def test_a_family_is_not_saved_as_one_of_its_heads(ours, theirs, tmp_path):
    with pytest.raises(InputError, match="stands for heads of several models"):
        family(ours, theirs).save(tmp_path / "mood")
    assert not (tmp_path / "mood").exists()
    family(ours, theirs).for_model(ours).save(tmp_path / "mood")
    assert Discriminator.load(tmp_path / "mood").card["base_model"]["name"] == "our-model"


def test_any_model_takes_a_head_of_the_model_s_width(ours, theirs):
    wide = replace(head(theirs, width=17, any_model=True), others=(head(theirs, any_model=True),))
    assert wide.for_model(ours).weight.shape == (2, 16)
    with pytest.raises(InputError, match="has no head for"):
        replace(wide, others=(head(theirs, width=18, any_model=True),)).for_model(ours)


def test_classifying_asks_the_head_that_belongs_to_the_model(ours, theirs):
    (own,) = classify_texts(ours, tiny_tokenizer(), family(ours, theirs).others[0], ["the view"])
    (found,) = classify_texts(ours, tiny_tokenizer(), family(ours, theirs), ["the view"])
    assert torch.equal(found, own)


@pytest.mark.parametrize("name", ["sentiment", "clickbait", "subjectivity"])
def test_the_shipped_families_have_heads_of_the_same_labels_for_each_model(name, embedded):
    shipped = Discriminator.load(name)
    assert [one.card["base_model"]["name"] for one in (shipped, *shipped.others)] == ["gpt2-mini", "smollm2"]
    assert {one.labels for one in shipped.others} == {shipped.labels}
    assert shipped.for_model(embedded[0]).weight.shape == (2, 320)
    assert all("vectors" in one.card["base_model"] and one.card["data"]["citation"] for one in shipped.others)


def test_the_command_line_lists_the_models_that_a_shipped_head_is_for(command, gpt2, tokenizer, tmp_path):
    for part in (gpt2, tokenizer):
        part.save_pretrained(tmp_path)
    code, _, err = command("generate", "The sea", "--model", tmp_path, "--discriminator", "sentiment:positive")
    assert code == 2
    assert "sentiment has no head for" in err
    assert "gpt2-mini, smollm2" in err
    code, _, err = command("classify", "The sea", "--model", tmp_path, "--discriminator", "sentiment")
    assert code == 2
    assert "sentiment has no head for" in err
