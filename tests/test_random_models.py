"""Models of a published size with random weights, for measuring time."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import pplm
from pplm.benchmark import RANDOM_MODELS, random_model
from pplm.benchmark import random_models as random_models_module


def test_random_models_have_the_published_sizes():
    millions = {"random:gpt2": 124, "random:gpt2-medium": 355}
    assert set(RANDOM_MODELS) == set(millions)
    for name, size in RANDOM_MODELS.items():
        with torch.device("meta"):
            model = GPT2LMHeadModel(GPT2Config(vocab_size=50257, n_positions=1024, **size))
        assert round(sum(weight.numel() for weight in model.parameters()) / 1e6) == millions[name]


def test_random_models_are_frozen_and_the_same_for_the_same_seed(monkeypatch):
    tiny = {"random:gpt2": {"n_layer": 1, "n_embd": 8, "n_head": 1}}
    monkeypatch.setattr(random_models_module, "RANDOM_MODELS", tiny)
    torch.manual_seed(7)
    one, again, other = (random_model("random:gpt2", device="cpu", seed=seed) for seed in (0, 0, 1))
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))
    ids = torch.tensor([[3, 4]])
    assert torch.equal(one(ids).logits, again(ids).logits)
    assert not torch.equal(one(ids).logits, other(ids).logits)
    assert not one.training
    assert not any(weight.requires_grad for weight in one.parameters())
    assert (one.config.vocab_size, one.config.n_positions) == (50257, 1024)


def test_an_unknown_random_model_is_refused():
    with pytest.raises(pplm.InputError, match="'random:bert' must be one of random:gpt2, random:gpt2-medium"):
        random_model("random:bert")
