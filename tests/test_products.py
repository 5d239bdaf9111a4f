"""Products that are computed by oneDNN are the products of torch, and so are their gradients."""

import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from pplm import SteeringConfig, private_names, products, steered_decoding
from pplm.products import fast_products, product


@pytest.fixture
def fast(monkeypatch):
    """Send products to oneDNN whatever their size, and count them."""
    calls = []
    monkeypatch.setattr(products, "_MIN_WORK", 0)
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    real = products._Linear.forward
    monkeypatch.setattr(products._Linear, "forward", staticmethod(lambda *a: (calls.append(1), real(*a))[1]))
    return calls


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


sizes = st.integers(1, 35)


@given(rows=sizes, inner=sizes, outer=sizes)
def test_a_fast_product_and_its_gradient_are_those_of_torch(rows, inner, outer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_MIN_WORK", 0)
        patch.setattr(products, "_MIN_WEIGHTS", 0)
        x, matrix = numbers(rows, inner).requires_grad_(), numbers(inner, outer, seed=1)
        result = product(x, matrix)
        upstream = numbers(rows, outer, seed=2)
        (gradient,) = torch.autograd.grad(result, x, upstream)
    exact = x.detach().double() @ matrix.double()
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradient.double(), upstream.double() @ matrix.double().T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("kind", ["Linear", "Linear without bias", "Conv1D"])
def test_layers_are_fast_inside_the_context_only(fast, kind, rows):
    layer = {
        "Linear": lambda: torch.nn.Linear(12, 18),
        "Linear without bias": lambda: torch.nn.Linear(12, 18, bias=False),
        "Conv1D": lambda: Conv1D(18, 12),
    }[kind]().requires_grad_(False)
    if kind != "Linear without bias":
        layer.bias.copy_(numbers(18))
    x = numbers(rows, 1, 12).requires_grad_()
    plain = layer(x)
    assert not fast
    with fast_products(of_model(layer)):
        result = layer(x)
    assert len(fast) == 1
    assert result.shape == (rows, 1, 18)
    torch.testing.assert_close(result, plain)
    gradients = [torch.autograd.grad(output.square().sum(), x)[0] for output in (result, plain)]
    torch.testing.assert_close(*gradients)
    assert len(fast) == 2  # the way back, too
    layer(x)
    assert len(fast) == 2


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_few_rows_of_a_matrix_that_lies_across_memory_give_the_same(fast, rows, monkeypatch):
    monkeypatch.setattr(products, "_STEP", 24)
    layer = Conv1D(24, 16).requires_grad_(False)
    layer.bias.copy_(numbers(24))
    x = numbers(rows, 1, 16).requires_grad_()
    plain = layer(x)
    with fast_products(of_model(layer)):
        result = layer(x)
    assert len(fast) == 1
    torch.testing.assert_close(result, plain)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in (result, plain)))


def test_small_products_are_left_to_torch(fast, monkeypatch):
    monkeypatch.setattr(products, "_MIN_WORK", 256)
    product(numbers(3, 8), numbers(8, 8))
    assert not fast
    product(numbers(4, 8), numbers(8, 8))
    product(numbers(2, 8), numbers(8, 16))
    assert len(fast) == 2
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 128)
    product(numbers(4, 8), numbers(8, 8))
    assert len(fast) == 2


def of_model(layer, device="cpu", dtype=torch.float32):
    """Return the layer, frozen, as a model that says where it is."""
    layer.requires_grad_(False)
    layer.device, layer.dtype = torch.device(device), dtype
    return layer


@pytest.mark.parametrize("where", [{"dtype": torch.bfloat16}, {"device": "meta"}])
def test_other_number_formats_and_accelerators_are_left_to_torch(fast, where):
    layer = of_model(torch.nn.Linear(8, 8), **where)
    with fast_products(layer):
        layer(numbers(1, 8))
    assert not fast


def test_other_matrices_are_left_to_torch(fast):
    rows, square = numbers(2, 8), numbers(8, 8)
    for matrix in (square.T, square.double(), square.bfloat16(), square.to_sparse()):
        result = product(rows.to(matrix.dtype), matrix)
        torch.testing.assert_close(result.float(), rows @ matrix.to_dense().float(), rtol=1e-2, atol=1e-2)
    assert not fast


@pytest.mark.parametrize("shape", [(0, 8), (0, 3, 8)])
def test_no_rows_at_all_give_none(fast, shape):
    layer = of_model(torch.nn.Linear(8, 6))
    with fast_products(layer):
        assert layer(torch.zeros(shape)).shape == (*shape[:-1], 6)
    assert not fast


def test_a_single_vector_and_an_argument_by_name_work(fast):
    weight, row = numbers(6, 8), numbers(8)
    with fast_products(of_model(torch.nn.Linear(1, 1))):
        torch.testing.assert_close(torch.nn.functional.linear(row, weight), weight @ row)
        torch.testing.assert_close(torch.nn.functional.linear(row[None], weight=weight), (weight @ row)[None])
    assert not fast


def test_autocast_rounds_what_it_would_round(monkeypatch):
    monkeypatch.setattr(products, "_MIN_WORK", 0)
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    layer, rows = of_model(torch.nn.Linear(7, 6)), numbers(3, 7).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        plain = layer(rows)
        with fast_products(layer):
            result = layer(rows)
    assert result.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(result, plain, rtol=0, atol=0)


@pytest.mark.parametrize("lacking", ["the library", "the operator"])
def test_without_onednn_everything_is_left_to_torch(fast, monkeypatch, lacking):
    if lacking == "the library":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    else:
        lacks = {**vars(torch), "ops": types.SimpleNamespace(mkldnn=None)}
        monkeypatch.setattr(private_names, "torch", types.SimpleNamespace(**lacks))
    layer = of_model(torch.nn.Linear(8, 8))
    with fast_products(layer):
        layer(numbers(1, 8))
    assert not fast


class Wanted:
    def loss(self, step):
        return -step.log_probs[:, :7].logsumexp(-1) - step.mean_hidden_state[:, 0]


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_steered_text_is_the_same_with_fast_products(monkeypatch, family, learns):
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "bos_token_id": 0, "eos_token_id": 0}
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **sizes))
    else:
        config = LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, **sizes)
        model = LlamaForCausalLM(config)
    model.eval().requires_grad_(learns)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ids = torch.randint(1, 61, (3, 5))

    def steered():
        loop = steered_decoding([Wanted()], SteeringConfig(step_size=0.1, window_length=4), seed=0)
        return model.generate(
            ids, attention_mask=torch.ones_like(ids), custom_generate=loop, do_sample=True, max_new_tokens=8,
            pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip

    plain = steered()
    taken = []
    real = products._Linear.apply
    monkeypatch.setattr(products, "_MIN_WORK", 0)
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    monkeypatch.setattr(products._Linear, "apply", lambda *a: (taken.append(a), real(*a))[1])
    fast = steered()
    assert taken
    assert torch.equal(plain.sequences, fast.sequences)
    for one, other in zip(plain.logits, fast.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    "bias",
    [torch.arange(36.0)[::2], torch.ones(1).expand(18), torch.ones(1), torch.ones(18).double(), torch.ones(3, 18)],
    ids=["every second", "expanded", "one for all", "double", "of two dimensions"],
)
def test_a_bias_that_does_not_lie_in_memory_as_it_is_read_is_left_to_torch(fast, bias):
    rows, weight = numbers(3, 12), numbers(18, 12)
    for work in (
        lambda: torch.nn.functional.linear(rows, weight, bias),
        lambda: torch.addmm(bias, rows, weight.T.contiguous()),
    ):
        try:
            wanted = work()
        except RuntimeError as error:
            with fast_products(of_model(torch.nn.Linear(1, 1))), pytest.raises(RuntimeError, match=str(error)[:20]):
                work()
        else:
            with fast_products(of_model(torch.nn.Linear(1, 1))):
                torch.testing.assert_close(work(), wanted)
    assert not fast


def test_shapes_that_do_not_fit_are_refused_as_torch_does(fast):
    with (
        fast_products(of_model(torch.nn.Linear(1, 1))),
        pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"),
    ):
        torch.nn.functional.linear(numbers(3, 11), numbers(18, 12))


def test_a_bias_that_learns_keeps_its_gradient(fast):
    layer = torch.nn.Linear(12, 18)
    layer.weight.requires_grad_(False)
    layer.device, layer.dtype = torch.device("cpu"), torch.float32
    with fast_products(layer):
        layer(numbers(3, 12)).sum().backward()
    assert layer.bias.grad.tolist() == [3.0] * 18
    assert not fast


def test_a_user_who_turns_onednn_off_is_obeyed(fast, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    layer = of_model(torch.nn.Linear(8, 8))
    with fast_products(layer):
        layer(numbers(1, 8))
    assert not fast


@pytest.mark.slow
def test_compiled_parts_of_a_model_keep_their_own_products(monkeypatch):
    monkeypatch.setattr(products, "_MIN_WORK", 0)
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    layer, rows = of_model(torch.nn.Linear(64, 32)), numbers(3, 64).requires_grad_()
    wanted = layer(rows)
    layer.compile()
    with fast_products(layer):
        found = layer(rows)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(out.sum(), rows)[0] for out in (found, wanted)))
