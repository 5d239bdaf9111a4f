"""Quantised weights: less memory, the same steering, and gradients that arrive in every layer."""

import copy
import importlib.util

import pytest
import torch
from helpers import decode, stored_bytes
from transformers import LlamaConfig, LlamaForCausalLM

import pplm
from attribute_models import BagOfWords
from pplm.errors import InputError, SteeringWarning
from pplm.models.fingerprint import weight_hashes
from pplm.models.quantized import check_quantized, history_gradients, quantization_config, quantize_loaded
from pplm.products import fast_products

if importlib.util.find_spec("torchao") is not None:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

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


def tokens(model, prompts, steering, bag, new=4):
    return decode(model, prompts, [bag], steering, new=new).sequences.tolist()


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_take_the_memory_that_their_bits_promise(loaded, scheme):
    plain, model = linear_weights(loaded(None)), linear_weights(loaded(scheme))
    count = sum(weight.numel() for weight in plain)
    stored = sum(map(stored_bytes, model))
    scales = 2 * 2 / 32 if scheme == "int4" else 5 / 64  # bytes per weight: of a group of 32, or of a row of 64 or more
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


@needs_torchao
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_is_that_of_all_that_is_not_quantised(folder, dtype):
    model, tokenizer = pplm.load_model(folder, device="cpu", quantize="int4", dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    assert model.get_input_embeddings().weight.dtype == model.dtype
    made = pplm.generate(
        model,
        tokenizer,
        "The moon",
        attributes=[BagOfWords.from_words(["star"], tokenizer)],
        steering=STEERING,
        max_new_tokens=2,
    )
    assert len(made[0].token_ids) >= 2


@needs_torchao
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_gguf_file_is_quantised_once_it_is_read(folder, loaded, scheme):
    """What transformers reads from such a file is a plain model; here it stands for one."""
    model = LlamaForCausalLM.from_pretrained(folder)
    quantize_loaded(model, scheme)
    for mine, other in zip(linear_weights(model), linear_weights(loaded(scheme)), strict=True):
        assert torch.equal(numbers(mine), numbers(other))
    with pytest.raises(InputError, match=r"quantize='bnb4' cannot read a .gguf file; use int8 or int4"):
        quantize_loaded(model, "bnb4")


@needs_torchao
def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(InputError, match=r"quantize='int8' finds no linear layer \(nn.Linear\) in GPT2LMHeadModel"):
        pplm.load_model(device="cpu", quantize="int8")


@needs_torchao
def test_a_load_that_leaves_most_weights_as_they_were_is_warned_of(llama):
    model = LlamaForCausalLM(llama.config)
    quantize_(model.model.layers[0].mlp, Int8WeightOnlyConfig())
    with pytest.warns(SteeringWarning, match=r"has quantised \d\d% of the weights in the layers of LlamaForCausalLM"):
        check_quantized(model, "int8")


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("int3", "quantize must be one of int8, int4, bnb8, bnb4; got 'int3'"),
        ("bnb8", "quantize='bnb8' needs a GPU, and the device is cpu; use int8 or int4"),
        ("bnb4", "quantize='bnb4' needs a GPU, and the device is cpu; use int8 or int4"),
    ],
)
def test_a_scheme_that_cannot_work_here_is_refused_by_name(folder, command, scheme, message):
    with pytest.raises(InputError, match=message):
        pplm.load_model(folder, device="cpu", quantize=scheme)
    if scheme != "int3":
        code, _, err = command("generate", "The moon", "--model", folder, "--device", "cpu", "--quantize", scheme)
        assert (code, err) == (2, f"Error: {message}\n")


@pytest.mark.parametrize(("scheme", "package"), [("int8", "torchao"), ("int4", "torchao"), ("bnb8", "bitsandbytes")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, scheme, package):
    monkeypatch.setattr("pplm.models.quantized.find_spec", lambda _: None)
    with pytest.raises(InputError, match=f"quantize='{scheme}' needs the package {package}; install it with: pip"):
        quantization_config(scheme, torch.device("cuda"))


@needs_torchao
def test_layers_that_round_their_inputs_lose_the_gradient_and_get_it_back(llama):
    """Why int8 layers pass none on: they multiply whole numbers, of which torch has no derivative."""
    model = copy.deepcopy(llama)
    quantize_(model, Int8DynamicActivationInt8WeightConfig(), lambda m, _: isinstance(m, torch.nn.Linear))
    rows = torch.randn(1, 2, 32).requires_grad_()
    layer = model.model.layers[0].self_attn.o_proj
    assert not layer(rows).requires_grad
    with fast_products(model):
        (found,) = torch.autograd.grad(layer(rows).sum(), rows)
    torch.testing.assert_close(found, numbers(layer.weight).sum(0).expand_as(rows))
    assert all(0 < norm < float("inf") for norm in history_gradients(model))


class Zero(torch.autograd.Function):
    """A product that passes a gradient of zero on."""

    @staticmethod
    def forward(_, hidden):
        return hidden.clone()

    @staticmethod
    def backward(_, gradient):
        return torch.zeros_like(gradient)


@pytest.mark.parametrize("number", [0, 1])
def test_a_single_layer_that_gets_no_gradient_is_found_by_name(llama, bag, number):
    model = copy.deepcopy(llama)
    model.model.layers[number].self_attn.o_proj.register_forward_hook(lambda *seen: Zero.apply(seen[2]))
    with pytest.warns(SteeringWarning, match=rf"no gradient reaches .* 1 of 2 moved layers \(layer {number}\)"):
        decode(model, PROMPTS, [bag], STEERING, new=2)
    assert [norm == 0 for norm in history_gradients(model)] == [number == 0, number == 1]


@needs_torchao
def test_numbers_that_leave_float16_are_named_as_such_and_not_as_lost_gradients(llama):
    """Whole numbers of up to 127 are added up before they are scaled."""
    for dtype in ("bfloat16", "float16"):
        model = copy.deepcopy(llama).to(getattr(torch, dtype))
        model.model.layers[0].input_layernorm.weight.data.fill_(1000.0)
        quantize_(model, Int8WeightOnlyConfig(), lambda m, _: isinstance(m, torch.nn.Linear))
        if dtype == "bfloat16":
            check_quantized(model, "int8")
            continue
        expected = r"quantize='int8' with dtype='float16' .* not finite on cpu; load it with dtype bfloat16 or float32"
        with pytest.raises(InputError, match=expected):
            check_quantized(model, "int8")
