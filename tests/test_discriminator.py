"""A linear head: its loss, its gradient, and the folder it is saved in."""

import json

import pytest
import torch

from attribute_models import Discriminator
from pplm import InputError
from pplm.interface import SteeringStep

WEIGHT = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
BIAS = torch.tensor([0.5, -0.25, 0.0])
LABELS = ["bad", "fair", "good"]


@pytest.fixture
def folder(tmp_path):
    Discriminator.from_weights(WEIGHT, BIAS, LABELS).save(tmp_path / "taste")
    return tmp_path / "taste"


def step(hidden):
    ids = torch.zeros(hidden.shape[0], 1, dtype=torch.long)
    return SteeringStep(ids, ids.bool(), torch.zeros(hidden.shape[0], 5), lambda: hidden)


def test_the_loss_is_the_cross_entropy_of_the_wanted_class_per_sample():
    hidden = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    probabilities = (hidden @ WEIGHT.T + BIAS).softmax(-1)
    for number, label in enumerate(LABELS):
        loss = Discriminator.from_weights(WEIGHT, BIAS, LABELS, label).loss(step(hidden))
        torch.testing.assert_close(loss, -probabilities[:, number].log())


def test_half_precision_hidden_states_are_judged_in_float32():
    head = Discriminator.from_weights(WEIGHT, BIAS, LABELS, "good")
    assert head.loss(step(torch.ones(2, 4, dtype=torch.bfloat16))).dtype == torch.float32


def test_the_gradient_reaches_the_hidden_state_and_not_the_head():
    hidden = torch.ones(2, 4, requires_grad=True)
    head = Discriminator.from_weights(WEIGHT, BIAS, LABELS, "good")
    head.loss(step(hidden)).sum().backward()
    assert hidden.grad.abs().sum() > 0
    assert head.weight.grad is None


def test_a_saved_head_comes_back_as_it_was(tmp_path):
    head = Discriminator.from_weights(WEIGHT, BIAS, LABELS, "good", name="taste")
    head.save(tmp_path / "a" / "taste")
    assert {path.name for path in (tmp_path / "a" / "taste").iterdir()} == {"head.safetensors", "card.json"}
    again = Discriminator.load(tmp_path / "a" / "taste", label="bad")
    assert torch.equal(again.weight, WEIGHT)
    assert torch.equal(again.bias, BIAS)
    assert (again.labels, again.label, again.name) == (tuple(LABELS), "bad", "taste")


def test_a_card_keeps_what_is_written_on_it(folder):
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    (folder / "card.json").write_text(json.dumps({**card, "trained_on": "réviews"}), encoding="utf-8")
    head = Discriminator.load(folder)
    head.save(folder)
    assert Discriminator.load(folder).card["trained_on"] == "réviews"


def test_weights_that_share_memory_with_something_larger_can_be_saved(tmp_path):
    Discriminator.from_weights(WEIGHT.T.contiguous().T, torch.zeros(9)[::3], LABELS).save(tmp_path)
    assert torch.equal(Discriminator.load(tmp_path).weight, WEIGHT)


def test_the_wanted_class_can_be_changed():
    head = Discriminator.from_weights(WEIGHT, BIAS, LABELS, "good")
    assert head.towards("bad").label == "bad"
    assert head.label == "good"


def test_an_unknown_label_is_refused_with_the_known_ones(folder):
    with pytest.raises(InputError, match="no label 'great'; choose one of bad, fair, good"):
        Discriminator.load(folder, label="great")
    with pytest.raises(InputError, match="no label 'great'"):
        Discriminator.from_weights(WEIGHT, BIAS, LABELS).towards("great")


def test_a_head_without_a_wanted_class_cannot_steer():
    with pytest.raises(InputError, match="no wanted class; choose one of bad, fair, good"):
        Discriminator.from_weights(WEIGHT, BIAS, LABELS).loss(step(torch.ones(1, 4)))


def test_another_width_is_refused_with_both():
    head = Discriminator.from_weights(WEIGHT, BIAS, LABELS, "good", name="taste")
    with pytest.raises(InputError, match="taste was trained on hidden states of width 4, the model's are 6 wide"):
        head.loss(step(torch.ones(1, 6)))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(broken):
    weight, bias = WEIGHT.clone(), BIAS.clone()
    weight[1, 2] = bias[0] = broken
    for arguments in ((weight, BIAS), (WEIGHT, bias)):
        with pytest.raises(InputError, match="not finite"):
            Discriminator.from_weights(*arguments, LABELS)


@pytest.mark.parametrize(
    ("weight", "bias", "labels"),
    [
        (WEIGHT, BIAS, ["a", "b"]),
        (WEIGHT, BIAS[:2], LABELS),
        (WEIGHT[0], BIAS, LABELS),
        (WEIGHT.T, BIAS, LABELS),
        (WEIGHT[:1], BIAS[:1], ["only"]),
        (WEIGHT, BIAS, ["a", "a", "b"]),
    ],
)
def test_shapes_and_labels_that_do_not_fit_are_refused(weight, bias, labels):
    with pytest.raises(InputError, match="labels"):
        Discriminator.from_weights(weight, bias, labels)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    for name in (tmp_path / "none", "none", "~nosuchuser/head", "x" * 300):
        with pytest.raises(InputError, match="is neither a folder nor a shipped one"):
            Discriminator.load(name)


@pytest.mark.parametrize("missing", ["head.safetensors", "card.json"])
def test_a_folder_that_lacks_a_file_is_refused(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(InputError, match=rf"cannot be read: .*{missing}"):
        Discriminator.load(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("head.safetensors", b""),
        ("head.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"),
        ("card.json", b"{"),
        ("card.json", b"\xff\xfe"),
    ],
)
def test_a_damaged_file_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        Discriminator.load(folder)


def test_a_file_that_was_cut_short_is_refused(folder):
    whole = (folder / "head.safetensors").read_bytes()
    (folder / "head.safetensors").write_bytes(whole[:-5])
    with pytest.raises(InputError, match="is damaged"):
        Discriminator.load(folder)


@pytest.mark.parametrize("card", [{}, [], {"labels": None}, {"labels": "bad"}, {"labels": [1, 2, 3]}, 7])
def test_a_card_without_a_list_of_names_is_refused(folder, card):
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"labels|lacks|damaged"):
        Discriminator.load(folder)
