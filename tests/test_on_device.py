"""What attribute models keep on the model's device is made once, takes part in autograd and travels."""

import copy
import pickle

import pytest
import torch

from attribute_models import BagOfWords, Discriminator
from attribute_models.on_device import OnDevice
from pplm.interface import SteeringStep

CPU = torch.device("cpu")


def a_step(width=32):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 90, generator=generator).requires_grad_()
    hidden = torch.randn(2, width, generator=generator).requires_grad_()
    ids = torch.randint(90, (2, 4), generator=generator)
    return SteeringStep(ids, torch.ones_like(ids).bool(), logits, lambda: hidden)


def test_it_is_made_once_per_device():
    made = []
    kept = OnDevice(lambda device: made.append(device) or torch.zeros(1, device=device))
    assert kept[CPU] is kept[CPU]
    assert kept[torch.device("meta")].device.type == "meta"
    assert [device.type for device in made] == ["cpu", "meta"]


def test_what_inference_mode_made_can_take_part_in_autograd():
    with torch.inference_mode():
        assert not OnDevice(lambda device: torch.zeros(1, device=device))[CPU].is_inference()


@pytest.mark.parametrize("kind", ["bag", "head"])
def test_an_attribute_model_that_was_used_can_be_copied_and_pickled(kind):
    head = Discriminator.from_weights(torch.randn(3, 32), torch.zeros(3), ["a", "b", "c"], "b")
    model = {"bag": BagOfWords.from_token_ids([11, 23], 90), "head": head}[kind]
    loss = model.loss(a_step())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert torch.equal(other.loss(a_step()), loss)
