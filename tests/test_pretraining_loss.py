"""The chunked loss of the base model's training, against torch's own."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from pplm.pretraining import loss as loss_module
from pplm.pretraining.loss import ChunkedCrossEntropy, LanguageModelLoss
from pplm.pretraining.validation import validate

CHUNKS = (1, 3, 7, 8, 64)


def small_model(vocab=50, positions=16, **config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocab, n_positions=positions, n_embd=8, n_layer=1, n_head=2, initializer_range=0.3,
                resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0, **config,
            )
        )  # fmt: skip


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(8, 5, generator=generator).to(dtype).requires_grad_()
    embeddings = torch.randn(11, 5, generator=generator).requires_grad_()
    return hidden, embeddings, torch.randint(11, (8,), generator=generator)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_chunked_loss_and_its_gradients_are_torch_s(monkeypatch, chunk):
    monkeypatch.setattr(loss_module, "_CHUNK", chunk)
    hidden, embeddings, targets = inputs()
    wanted = functional.cross_entropy(hidden @ embeddings.T, targets, reduction="sum")
    wanted_gradients = torch.autograd.grad(2.5 * wanted, (hidden, embeddings))
    found = ChunkedCrossEntropy.apply(hidden, embeddings, targets, torch.float32, True)
    found_gradients = torch.autograd.grad(2.5 * found, (hidden, embeddings))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found_gradients, wanted_gradients)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_in_bfloat16_the_loss_is_close_and_gradients_have_the_weights_format(monkeypatch, chunk):
    monkeypatch.setattr(loss_module, "_CHUNK", chunk)
    hidden, embeddings, targets = inputs()
    wanted = functional.cross_entropy(hidden @ embeddings.T, targets, reduction="sum")
    wanted_gradients = torch.autograd.grad(wanted, (hidden, embeddings))
    found = ChunkedCrossEntropy.apply(hidden, embeddings, targets, torch.bfloat16, True)
    found_gradients = torch.autograd.grad(found, (hidden, embeddings))
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0)
    for one, other in zip(found_gradients, wanted_gradients, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


def test_logits_too_large_for_exp_give_a_finite_loss():
    hidden, embeddings, targets = inputs()
    found = ChunkedCrossEntropy.apply(hidden * 1e4, embeddings, targets, torch.float32, True)
    torch.testing.assert_close(
        found, functional.cross_entropy(hidden * 1e4 @ embeddings.T, targets, reduction="sum"), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_of_a_model_and_all_its_gradients_are_those_of_its_logits(tied):
    model = small_model(tie_word_embeddings=tied)
    ids = torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(2))
    positions = torch.arange(8).expand(3, -1) + 4
    logits = model(input_ids=ids[:, :-1], position_ids=positions).logits
    wanted = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    wanted.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    found = LanguageModelLoss(model, torch.float32)(ids[:, :-1], ids[:, 1:], positions)
    found.backward()
    torch.testing.assert_close(found, wanted)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5, msg=name)


def test_without_gradients_the_loss_is_the_same():
    model = small_model()
    ids = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(2))
    arguments = (ids[:, :-1], ids[:, 1:], torch.arange(8).expand(2, -1))
    with torch.no_grad():
        quiet = LanguageModelLoss(model, torch.float32)(*arguments)
    assert not quiet.requires_grad
    assert quiet.item() == LanguageModelLoss(model, torch.float32)(*arguments).item()


# --- validation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 5, 16, 17, 33, 100])
def test_a_uniform_model_needs_log2_of_the_vocabulary_for_every_token(length):
    model = small_model()
    torch.nn.init.zeros_(model.lm_head.weight)
    tokens = np.arange(length, dtype=np.uint16) % 50
    found = validate(model, tokens, characters=7, num_positions=16)
    assert found.tokens == length - 1
    assert found.characters == 7
    assert found.nats_per_token == pytest.approx(math.log(50), rel=1e-6)
    assert found.perplexity == pytest.approx(50, rel=1e-5)
    assert found.bits_per_character == pytest.approx(math.log2(50) * (length - 1) / 7, rel=1e-6)


@pytest.mark.parametrize("batch", [1, 32, 8192])
def test_validation_reads_the_text_in_windows_of_the_context_whatever_the_batch(monkeypatch, batch):
    monkeypatch.setattr("pplm.pretraining.validation._BATCH_TOKENS", batch)
    model = small_model().eval()
    tokens = np.random.default_rng(0).integers(0, 50, 43).astype(np.uint32)
    ids = torch.from_numpy(tokens.astype(np.int64))
    nats = 0.0
    with torch.no_grad():
        for start in range(0, 42, 16):
            window = ids[start : start + 17]
            nats += functional.cross_entropy(model(window[None, :-1]).logits[0], window[1:], reduction="sum").item()
    found = validate(model, tokens, characters=100, num_positions=16)
    assert found.nats_per_token == pytest.approx(nats / 42, rel=1e-5)
    assert found.bits_per_character == pytest.approx(nats / math.log(2) / 100, rel=1e-5)


def test_validation_leaves_the_model_as_it_was():
    model = small_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    validate(model, np.arange(20, dtype=np.uint16), characters=1, num_positions=16)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
