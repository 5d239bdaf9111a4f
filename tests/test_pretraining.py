"""Whole runs of a tiny model: what comes out, and what each setting changes."""

import json

import numpy as np
import pytest
import torch
from tiny_pretraining import SHAPE, CrashError, curve, documents, settings, stop_after, train, weights, write_corpus
from transformers import GPT2Config, GPT2LMHeadModel

import pplm
from attribute_models import BagOfWords
from pplm import InputError
from pplm.pretraining import Architecture, StepReport, precision
from pplm.pretraining.blocks import BlockOrder
from pplm.pretraining.card import _curve
from pplm.pretraining.model_setup import StartingPoint
from pplm.pretraining.optimizers import Optimizers
from pplm.pretraining.validation import validate

# --- what comes out --------------------------------------------------------------------------------------------


def test_a_trained_model_loads_has_learnt_its_text_and_is_steered(tmp_path):
    source = write_corpus(tmp_path, ["The cat sees the moon. The star follows the sun. " * 8] * 20)
    shape = Architecture(num_layers=2, width=16, num_heads=2, num_positions=32, vocab_size=280)
    # All but certain of its next token it could not be steered: so it is stopped early.
    report = train(source, tmp_path / "model", changes={"steps": 25, "adamw_lr": 0.02}, shape=shape)
    assert report.steps[-1].loss < 0.7 * report.steps[0].loss
    model, tokenizer = pplm.load_model(tmp_path / "model", device="cpu")
    bag = BagOfWords.from_words({"moon": 1.0}, tokenizer, name="moon")
    request = {"num_samples": 16, "seed": 0, "max_new_tokens": 12, "do_sample": True}
    strong = pplm.SteeringConfig(step_size=0.5)
    plain = pplm.generate(model, tokenizer, "The cat", attributes=[], **request)
    steered = pplm.generate(model, tokenizer, "The cat", attributes=[bag], steering=strong, **request)
    moons = [sum(text.text.count("moon") for text in texts) for texts in (plain, steered)]
    assert moons[1] > 1.5 * moons[0] > 0, moons


def test_the_reported_validation_is_that_of_the_folder_s_weights_on_the_held_out_text(finished):
    folder, report = finished
    model, tokenizer = pplm.load_model(folder, device="cpu")
    held_out = [text for index, text in enumerate(documents()) if index % 10 == 5]
    ids = np.concatenate([[0, *tokenizer(text).input_ids] for text in held_out])
    found = validate(model, ids, characters=sum(map(len, held_out)), num_positions=32)
    assert found == report.validation


def test_the_folder_is_a_gpt2_of_the_wanted_shape_in_float16(finished):
    config = json.loads((finished[0] / "config.json").read_text(encoding="utf-8"))
    assert (config["n_layer"], config["n_embd"], config["n_head"]) == (2, 16, 2)
    assert (config["n_positions"], config["vocab_size"], config["dtype"]) == (32, 300, "float16")
    assert (config["activation_function"], config["tie_word_embeddings"]) == ("gelu_pytorch_tanh", True)


def test_every_step_is_reported_and_logged(finished):
    folder, report = finished
    assert [step.step for step in report.steps] == list(range(1, 13))
    assert [step.tokens for step in report.steps] == [64 * n for n in range(1, 7)] + [
        384 + 128 * n for n in range(1, 7)
    ]
    assert report.steps[-1].done == 1
    assert report.steps[1].lr_share == 1
    logged = (folder / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["loss"] for line in logged] == [step.loss for step in report.steps]


def test_the_card_states_data_run_recipe_result_and_command(finished):
    folder, report = finished
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    characters = sum(len(text) for index, text in enumerate(documents()) if index % 10 != 5)
    tokens = np.load(folder / "training" / "training.npy")
    parameters = 300 * 16 + 32 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16
    for wanted in (
        "# tiny",
        f"{parameters:,} parameters (2 layers, width 16, 2 heads, 32 positions, tied embeddings)",
        "vocabulary of 300 tokens",
        f"stories.txt: 27 documents, {characters:,} characters",
        f"budget 12 steps; took 12 steps, 1,152 tokens ({1152 / len(tokens):.2f} epochs)",
        "Muon 0.02",
        "AdamW 0.001",
        "64 tokens per step in the first half, 128 after; blocks of 16",
        f"{report.steps[-1].tokens:,}",
        f"{report.validation.nats_per_token:.3f} nats per token",
        f"**{report.validation.bits_per_character:.3f} bits per character**",
        "licence",
        "limits",
        "```\npplm train-base stories.txt --output tiny\n```",
    ):
        assert wanted in card, wanted
    assert str(folder.parent) not in card


def test_token_ids_are_stored_in_two_bytes_where_they_fit_and_in_four_elsewhere(
    corpus, finished, tmp_path, monkeypatch
):
    assert np.load(finished[0] / "training" / "training.npy").dtype == np.uint16
    for count, dtype in ((65536, np.uint16), (65537, np.uint32)):
        monkeypatch.setattr("pplm.pretraining.training.num_token_ids", lambda _, count=count: count)
        report = train(corpus, tmp_path / str(count))
        assert np.load(tmp_path / str(count) / "training" / "training.npy").dtype == dtype
        assert curve(report) == curve(finished[1])


def test_the_curve_is_that_of_a_plain_loop_with_torch_s_loss_and_optimizers(finished):
    folder, report = finished
    model = StartingPoint(SHAPE).first_model(pplm.load_model(folder, device="cpu")[1], seed=0)
    body = {name: value for name, value in model.named_parameters() if ".h." in name and value.ndim == 2}
    rest = [value for name, value in model.named_parameters() if name not in body]
    rates = {torch.optim.Muon(list(body.values()), weight_decay=0.0): 0.02,
             torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0): 0.001}  # fmt: skip
    order = BlockOrder(np.load(folder / "training" / "training.npy"), num_positions=32, seed=0)
    losses, spans = [], 0
    for step in range(12):
        count, length = (2 if step < 6 else 4), (32 if step / 12 >= 0.9 else 16)
        blocks = order.blocks(order.spans(spans, count), block_length=length, step=step)
        spans += count
        logits = model(input_ids=blocks.input_ids, position_ids=blocks.position_ids).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), blocks.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in rates.items():
            optimizer.param_groups[0]["lr"] = (
                rate * min(1, (step + 1) / 2) * (1 - 0.98 * max(0, step / 12 - 0.45) / 0.55)
            )
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    torch.testing.assert_close([step.loss for step in report.steps], losses, rtol=1e-4, atol=0)


# --- knobs -----------------------------------------------------------------------------------------------------


def test_the_size_of_a_micro_batch_changes_the_memory_and_not_the_run(corpus, finished, tmp_path):
    report = train(corpus, tmp_path / "run", changes={"micro_batch_tokens": 32})
    torch.testing.assert_close([s.loss for s in report.steps], [s.loss for s in finished[1].steps], rtol=1e-4, atol=0)


def test_knobs_that_are_off_change_nothing_and_on_change_the_run(corpus, finished, tmp_path):
    high = train(corpus, tmp_path / "high", changes={"max_grad_norm": 1e9})
    assert curve(high) == curve(train(corpus, tmp_path / "off", changes={"max_grad_norm": 0.0}))
    for number, changes in enumerate(({"max_grad_norm": 0.01}, {"weight_decay": 0.5}, {"seed": 1})):
        assert curve(train(corpus, tmp_path / str(number), changes=changes)) != curve(finished[1])


def test_learning_rates_of_zero_leave_the_weights_alone(corpus, tmp_path):
    train(corpus, tmp_path / "run", changes={"muon_lr": 0.0, "adamw_lr": 0.0})
    _, tokenizer = pplm.load_model(tmp_path / "run", device="cpu")
    start = StartingPoint(SHAPE).first_model(tokenizer, seed=0)
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, start.get_parameter(name).half().float()), name


def test_one_step_moves_every_weight(corpus, tmp_path):
    train(corpus, tmp_path / "run", changes={"steps": 1, "warmup_steps": 0})
    _, tokenizer = pplm.load_model(tmp_path / "run", device="cpu")
    start = StartingPoint(SHAPE).first_model(tokenizer, seed=0)
    for name, value in weights(tmp_path / "run").items():
        assert not torch.equal(value, start.get_parameter(name).half().float()), name


def test_auto_takes_the_faster_number_format_and_keeps_it(corpus, tmp_path, monkeypatch):
    asked = []

    def seconds(loss_of, blocks):
        asked.append(loss_of.dtype)
        return {torch.float32: 2.0, torch.bfloat16: 1.0}[loss_of.dtype]

    monkeypatch.setattr(precision, "_seconds", seconds)
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", changes={"precision": "auto"}, on_step=stop_after(2))
    assert set(asked) == {torch.float32, torch.bfloat16}
    asked.clear()
    assert train(corpus, tmp_path / "run", changes={"precision": "auto"}, resume=True).precision == "bfloat16"
    assert asked == []


def test_timing_the_formats_leaves_no_gradients(finished):
    model = StartingPoint(SHAPE).first_model(pplm.load_model(finished[0], device="cpu")[1], seed=0)
    blocks = BlockOrder(np.arange(200, dtype=np.uint16), num_positions=32, seed=0)
    assert precision.faster_precision(model, blocks.blocks(blocks.spans(0, 1), block_length=32, step=0)) in (
        "float32",
        "bfloat16",
    )
    assert all(parameter.grad is None for parameter in model.parameters())


def test_muon_takes_the_matrices_of_the_body_and_nothing_else():
    for tied in (True, False):
        config = GPT2Config(vocab_size=50, n_positions=8, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=tied)
        model = GPT2LMHeadModel(config)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        Optimizers(model, settings(adamw_lr=0.0)).step(1.0)
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        assert moved == {f"transformer.h.0.{part}.weight" for part in (
            "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj",
        )}  # fmt: skip


def test_weight_decay_shrinks_matrices_and_leaves_norms_and_biases_alone():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    Optimizers(model, settings(weight_decay=0.5)).step(1.0)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == (value.ndim == 1), name


def test_the_card_s_losses_are_means_over_the_last_steps():
    steps = [StepReport(n, 10 * n, 1.0 * n, 9.0 if n <= 60 else 1.0, 1.0, n / 120) for n in range(1, 121)]
    points = _curve(steps).split(", ")
    assert (points[0], points[-1]) == ("9.00 at 150", "1.00 at 1,200")


def test_a_run_that_diverges_stops_and_says_what_to_lower(corpus, tmp_path):
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+; .* lower muon_lr and adamw_lr"):
        train(corpus, tmp_path / "run", changes={"adamw_lr": 1e30, "warmup_steps": 0})
