"""Quantised weights: less memory, the same steering, and gradients that arrive in every layer."""

import copy
import importlib.util

import pytest
import torch
from helpers import decode
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import pplm
from pplm.errors import InputError, SteeringWarning
from pplm.models.fingerprint import weight_hashes
from pplm.models.quantized import check_quantized, history_gradients, quantization_config
from pplm.products import fast_products

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs the package torchao")
SCHEMES = ("int8", "int4")
BITS = {"int8": 8, "int4": 4}
STEERING = pplm.SteeringConfig(step_size=0.3, num_iterations=2)
PROMPTS = [[3, 4, 5, 6], [7, 8, 9, 10]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A saved Llama whose linear layers hold most of its weights."""
    torch.manual_seed(2)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": len(tokenizer)}
    end = tokenizer.eos_token_id
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": end, "eos_token_id": end}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, initializer_range=0.15, max_position_embeddings=64))
    place = tmp_path_factory.mktemp("llama")
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def loaded(folder):
    """Scheme -> the folder's model; None is the one that is not quantised. Read-only."""
    made = {}

    def load(scheme):
        if scheme not in made:
            made[scheme] = pplm.load_model(folder, device="cpu", quantize=scheme)[0]
        return made[scheme]

    return load


def linear_weights(model):
    return [module.weight for module in model.model.layers.modules() if isinstance(module, torch.nn.Linear)]


def numbers(weight):
    return weight.dequantize() if hasattr(weight, "tensor_data_names") else weight


def stored_bytes(weight):
    names = getattr(weight, "tensor_data_names", None)
    return sum(getattr(weight, name).nbytes for name in names) if names else weight.nbytes


def tokens(model, prompts, steering, bag, new=4):
    return decode(model, prompts, [bag], steering, new=new).sequences.tolist()


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_take_the_memory_that_their_bits_promise(loaded, scheme):
    plain, model = linear_weights(loaded(None)), linear_weights(loaded(scheme))
    count = sum(weight.numel() for weight in plain)
    stored = sum(map(stored_bytes, model))
    scales = 2 * 2 / 32 if scheme == "int4" else 4 / 64  # bytes per weight: of a group of 32, or of a row of 64 or more
    assert BITS[scheme] / 8 * count < stored <= (BITS[scheme] / 8 + scales) * count
    assert stored < sum(map(stored_bytes, plain)) / 3


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_rounded_to_the_nearest_step(loaded, scheme):
    for plain, rounded in zip(linear_weights(loaded(None)), linear_weights(loaded(scheme)), strict=True):
        groups = plain.unflatten(1, (-1, 32 if scheme == "int4" else plain.shape[1]))
        step = (groups.amax(2) - groups.amin(2)) / 15 if scheme == "int4" else groups.abs().amax(2) / 127
        distance = (numbers(rounded) - plain).unflatten(1, groups.shape[1:]).abs().amax(2)
        assert (distance <= 0.6 * step).all()


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_gradient_is_that_of_the_numbers_the_weights_stand_for(loaded, scheme):
    layer = loaded(scheme).model.layers[0].mlp.up_proj
    rows = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with fast_products(loaded(scheme)):
        result = layer(rows)
        (found,) = torch.autograd.grad(result.square().sum(), rows)
    other = torch.nn.functional.linear(rows, numbers(layer.weight))
    torch.testing.assert_close(result, other)
    torch.testing.assert_close(found, torch.autograd.grad(other.square().sum(), rows)[0])


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_layers_history_gets_a_finite_gradient_that_is_not_zero(loaded, scheme):
    norms = history_gradients(loaded(scheme))
    assert len(norms) == 3
    assert all(0 < norm < float("inf") for norm in norms)


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantised_model_is_steered_like_any_other(loaded, scheme, bag):
    model = loaded(scheme)
    before = [numbers(weight).clone() for weight in linear_weights(model)]
    unsteered = model.generate(torch.tensor(PROMPTS), max_new_tokens=4, do_sample=False, pad_token_id=0).tolist()
    assert tokens(model, PROMPTS, pplm.SteeringConfig(step_size=0.0), bag) == unsteered
    steered = tokens(model, PROMPTS, STEERING, bag)
    assert steered != unsteered
    assert [tokens(model, [prompt], STEERING, bag)[0] for prompt in PROMPTS] == steered
    assert all(torch.equal(numbers(w), old) for w, old in zip(linear_weights(model), before, strict=True))
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantised_load_has_a_fingerprint_of_its_own_that_stays(loaded, folder, scheme):
    own = weight_hashes(loaded(scheme))
    assert own == weight_hashes(pplm.load_model(folder, device="cpu", quantize=scheme)[0])
    assert not set(own.values()) & set(weight_hashes(loaded(None)).values())
