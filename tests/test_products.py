"""Products that are shared out to the processor's cores are the products of torch, and so are their gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from pplm import SteeringConfig, steered_decoding
from pplm.text import products
from pplm.text.products import product, shared_products


@pytest.fixture
def shared(monkeypatch):
    """Share out whatever the size and the machine, and count it."""
    calls = []
    for name in ("_by_sums", "_by_columns"):
        real = getattr(products, name)
        monkeypatch.setattr(products, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    monkeypatch.setattr(products, "_shares", lambda: True)
    return calls


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


sizes = st.integers(1, 35)


@given(rows=sizes, inner=sizes, outer=sizes, transposed=st.booleans())
def test_a_shared_product_and_its_gradient_are_those_of_torch(rows, inner, outer, transposed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_MIN_WEIGHTS", 0)
        patch.setattr(products, "_shares", lambda: True)
        x, matrix = numbers(rows, inner).requires_grad_(), numbers(inner, outer, seed=1)
        given_matrix = matrix.T.contiguous() if transposed else matrix
        result = product(x, given_matrix, transposed=transposed)
        upstream = numbers(rows, outer, seed=2)
        (gradient,) = torch.autograd.grad(result, x, upstream)
    exact = x.detach().double() @ matrix.double()
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradient.double(), upstream.double() @ matrix.double().T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("kind", ["Linear", "Linear without bias", "Conv1D"])
def test_layers_share_their_products_out_inside_the_context_only(shared, kind, rows):
    layer = {
        "Linear": lambda: torch.nn.Linear(12, 18),
        "Linear without bias": lambda: torch.nn.Linear(12, 18, bias=False),
        "Conv1D": lambda: Conv1D(18, 12),
    }[kind]().requires_grad_(False)
    if kind != "Linear without bias":
        layer.bias.copy_(numbers(18))
    x = numbers(rows, 1, 12).requires_grad_()
    plain = layer(x)
    assert not shared
    with shared_products(of_model(layer)):
        result = layer(x)
    assert len(shared) == 1
    assert result.shape == (rows, 1, 18)
    torch.testing.assert_close(result, plain)
    gradients = [torch.autograd.grad(output.square().sum(), x)[0] for output in (result, plain)]
    torch.testing.assert_close(*gradients)
    assert len(shared) == 2  # the way back, too
    layer(x)
    assert len(shared) == 2


def test_more_rows_and_smaller_matrices_are_left_to_torch(shared, monkeypatch):
    product(numbers(33, 8), numbers(8, 8))
    assert not shared
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 64)
    product(numbers(5, 8), numbers(8, 8))  # with so many rows a matrix has to be twice as large
    assert not shared
    product(numbers(4, 8), numbers(8, 8))
    product(numbers(5, 8), numbers(8, 16))
    assert len(shared) == 2


def of_model(layer, device="cpu", dtype=torch.float32):
    """Return the layer, frozen, as a model that says where it is."""
    layer.requires_grad_(False)
    layer.device, layer.dtype = torch.device(device), dtype
    return layer


@pytest.mark.parametrize("where", [{"dtype": torch.bfloat16}, {"device": "meta"}])
def test_other_number_formats_and_accelerators_are_left_to_torch(shared, where):
    layer = of_model(torch.nn.Linear(8, 8), **where)
    with shared_products(layer):
        layer(numbers(1, 8))
    assert not shared


def test_other_matrices_are_left_to_torch(shared):
    rows, square = numbers(2, 8), numbers(8, 8)
    for matrix in (square.T, square.double(), square.bfloat16(), square.to_sparse()):
        result = product(rows.to(matrix.dtype), matrix)
        torch.testing.assert_close(result.float(), rows @ matrix.to_dense().float(), rtol=1e-2, atol=1e-2)
    assert not shared


@pytest.mark.parametrize("shape", [(0, 8), (0, 3, 8)])
def test_no_rows_at_all_give_none(shared, shape):
    layer = of_model(torch.nn.Linear(8, 6))
    with shared_products(layer):
        assert layer(torch.zeros(shape)).shape == (*shape[:-1], 6)
    assert not shared


def test_a_single_vector_and_an_argument_by_name_work(shared):
    weight, row = numbers(6, 8), numbers(8)
    with shared_products(of_model(torch.nn.Linear(1, 1))):
        torch.testing.assert_close(torch.nn.functional.linear(row, weight), weight @ row)
        assert len(shared) == 1
        torch.testing.assert_close(torch.nn.functional.linear(row, weight=weight), weight @ row)
    assert len(shared) == 1


def test_autocast_rounds_what_it_would_round(monkeypatch):
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    layer, rows = of_model(torch.nn.Linear(7, 6)), numbers(3, 7).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        plain = layer(rows)
        with shared_products(layer):
            result = layer(rows)
    assert result.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(result, plain, rtol=0, atol=0)


@pytest.mark.parametrize("threads", [1, 64])
def test_one_thread_and_very_many_are_left_to_torch(monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    monkeypatch.setattr(products, "_Product", None)  # would fail if it were used
    layer = of_model(torch.nn.Linear(8, 8))
    with shared_products(layer):
        layer(numbers(1, 8))


class Wanted:
    def loss(self, step):
        return -step.log_probs[:, :7].logsumexp(-1) - step.mean_hidden_state[:, 0]


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_steered_text_is_the_same_with_shared_products(monkeypatch, family, learns):
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
    real = products._Product.apply
    monkeypatch.setattr(products, "_MIN_WEIGHTS", 0)
    monkeypatch.setattr(products, "_shares", lambda: True)
    monkeypatch.setattr(products._Product, "apply", lambda *a: (taken.append(a), real(*a))[1])
    shared = steered()
    assert taken
    assert torch.equal(plain.sequences, shared.sequences)
    for one, other in zip(plain.logits, shared.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
