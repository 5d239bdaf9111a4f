"""Whole runs of a tiny model: stopped, killed, resumed, continued, and used afterwards."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_pretraining import SHAPE, curve, documents, settings, train, write_corpus
from tiny_training import tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

import pplm
from attribute_models import BagOfWords
from pplm import InputError
from pplm.pretraining import Architecture, checkpoint, precision
from pplm.pretraining.blocks import BlockOrder
from pplm.pretraining.model_setup import StartingPoint
from pplm.pretraining.optimizers import Optimizers
from pplm.pretraining.request import BaseModelRequest
from pplm.pretraining.training_folder import TrainingFolder
from pplm.pretraining.validation import validate

ROOT = Path(__file__).resolve().parent.parent


class CrashError(Exception):
    """Stands for everything that ends a process without asking."""


def stop_after(step, error=CrashError):
    def on_step(report):
        if report.step == step:
            raise error

    return on_step


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A run that nobody interrupted, read-only: (folder, report)."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    return folder, train(corpus, folder, command="pplm train-base stories.txt --output tiny")


def weights(folder):
    model, _ = pplm.load_model(folder, device="cpu")
    return dict(model.named_parameters())


def assert_same_weights(one, other):
    for (name, first), second in zip(weights(one).items(), weights(other).values(), strict=True):
        assert torch.equal(first, second), name


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
    parameters = 300 * 16 + 32 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16
    for wanted in (
        "# tiny",
        f"{parameters:,} parameters (2 layers, width 16, 2 heads, 32 positions, tied embeddings)",
        "vocabulary of 300 tokens",
        f"stories.txt: 27 documents, {characters:,} characters",
        "budget 12 steps; took 12 steps, 1,152 tokens",
        "Muon 0.02",
        "AdamW 0.001",
        "64 tokens a step in the first half, 128 after; blocks of 16",
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


# --- stopped and resumed ---------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from tiny_pretraining import train
def on_step(report):
    if report.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
train(sys.argv[1], sys.argv[2], on_step=on_step)
"""


@pytest.mark.slow
def test_a_run_killed_with_kill_9_goes_on_as_if_nothing_had_happened(corpus, finished, tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(  # noqa: S603
        [sys.executable, "-c", KILLED, corpus, tmp_path / "run"], env=environment, capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "run" / "training"
    assert len((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 8
    assert not (tmp_path / "run" / "model.safetensors").exists()
    steps = []
    report = train(corpus, tmp_path / "run", resume=True, on_step=steps.append)
    assert [step.step for step in steps] == [8, 9, 10, 11, 12]  # the last checkpoint was that of step 7
    assert curve(report) == curve(finished[1])
    assert report.validation == finished[1].validation
    assert_same_weights(tmp_path / "run", finished[0])


@pytest.mark.parametrize("minutes", [0, 1000])
def test_a_crash_with_or_without_a_checkpoint_changes_nothing(corpus, finished, tmp_path, minutes):
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", changes={"checkpoint_minutes": minutes}, on_step=stop_after(5))
    assert (tmp_path / "run" / "training" / "checkpoint.safetensors").exists() == (minutes == 0)
    report = train(corpus, tmp_path / "run", changes={"checkpoint_minutes": minutes}, resume=True)
    assert curve(report) == curve(finished[1])
    assert_same_weights(tmp_path / "run", finished[0])


def test_an_interrupt_saves_the_last_step(corpus, finished, tmp_path):
    rare = {"checkpoint_minutes": 1000}
    with pytest.raises(KeyboardInterrupt):
        train(corpus, tmp_path / "run", changes=rare, on_step=stop_after(5, KeyboardInterrupt))
    steps = []
    report = train(corpus, tmp_path / "run", changes=rare, resume=True, on_step=steps.append)
    assert steps[0].step == 6
    assert curve(report) == curve(finished[1])


def test_an_interrupt_amid_an_update_waits_for_its_end(corpus, finished, tmp_path, monkeypatch):
    step, handler = Optimizers.step, signal.getsignal(signal.SIGINT)

    def interrupted(self, share):
        signal.raise_signal(signal.SIGINT)
        step(self, share)

    rare = {"checkpoint_minutes": 1000}
    with monkeypatch.context() as patch:
        patch.setattr(Optimizers, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(corpus, tmp_path / "run", changes=rare)
    assert signal.getsignal(signal.SIGINT) is handler
    steps = []
    assert curve(train(corpus, tmp_path / "run", changes=rare, resume=True, on_step=steps.append)) == curve(finished[1])
    assert steps[0].step == 2


def test_a_checkpoint_that_is_interrupted_leaves_the_one_before(corpus, finished, tmp_path, monkeypatch):
    save = checkpoint.save_file
    written = []

    def full_disk(tensors, path, metadata):
        written.append(path)
        if len(written) == 5:
            Path(path).write_bytes(b"half of a file")
            raise OSError("No space left on device")
        save(tensors, path, metadata=metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full_disk)
        with pytest.raises(InputError, match="cannot be written: No space left on device; make room"):
            train(corpus, tmp_path / "run")
    steps = []
    assert curve(train(corpus, tmp_path / "run", resume=True, on_step=steps.append)) == curve(finished[1])
    assert steps[0].step == 5


def test_a_log_whose_last_line_was_cut_off_is_mended(corpus, finished, tmp_path):
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", on_step=stop_after(5))
    with (tmp_path / "run" / "training" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "tok')
    assert curve(train(corpus, tmp_path / "run", resume=True)) == curve(finished[1])


def test_a_resumed_run_needs_neither_its_text_nor_the_models_it_began_with(corpus, finished, tmp_path):
    source, donor = shutil.copy(corpus, tmp_path / "stories.txt"), tmp_path / "donor"
    shutil.copytree(finished[0], donor, ignore=shutil.ignore_patterns("training"))
    borrowing = {"embeddings_from": str(donor), "tokenizer": str(donor)}
    whole = train(source, tmp_path / "whole", **borrowing)
    assert whole.steps[0].loss != finished[1].steps[0].loss
    with pytest.raises(CrashError):
        train(source, tmp_path / "run", on_step=stop_after(5), **borrowing)
    shutil.rmtree(donor)
    source.unlink()
    report = train(source, tmp_path / "run", resume=True, **borrowing)
    assert curve(report) == curve(whole)


def test_resuming_a_finished_run_gives_the_same_model_again(corpus, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "tiny")
    report = train(corpus, tmp_path / "tiny", resume=True, command="pplm train-base --resume")
    assert curve(report) == curve(finished[1])
    assert_same_weights(tmp_path / "tiny", finished[0])
    cards = [(folder / "MODEL_CARD.md").read_text(encoding="utf-8") for folder in (tmp_path / "tiny", finished[0])]
    assert cards[0] == cards[1]  # with the command that began the run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"changes": {"seed": 3}}, "seed was 0 when this run began; got 3"),
        ({"changes": {"steps": 20}}, "steps was 12 when this run began; got 20"),
        ({"split": "test"}, "split was 'train' when this run began; got 'test'"),
        ({"init": "gpt2-mini"}, "init was None when this run began"),
    ],
)
def test_resuming_with_other_settings_is_refused(corpus, finished, changes, message):
    with pytest.raises(InputError, match=message):
        train(corpus, finished[0], resume=True, **changes)


def test_memory_and_checkpoints_may_change_on_the_way(corpus, finished, tmp_path):
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", on_step=stop_after(5))
    report = train(corpus, tmp_path / "run", resume=True, changes={"micro_batch_tokens": 32, "checkpoint_minutes": 1})
    torch.testing.assert_close([s.loss for s in report.steps], [s.loss for s in finished[1].steps], rtol=1e-4, atol=0)


def test_a_damaged_checkpoint_is_told(corpus, finished, tmp_path):
    for damage in (b"broken", None):
        shutil.copytree(finished[0], tmp_path / "run", dirs_exist_ok=True)
        path = tmp_path / "run" / "training" / "checkpoint.safetensors"
        if damage is None:
            shutil.copy(finished[0] / "model.safetensors", path)
        else:
            path.write_bytes(damage)
        with pytest.raises(InputError, match="cannot be resumed"):
            train(corpus, tmp_path / "run", resume=True)


def test_a_pause_does_not_use_up_a_budget_of_minutes(corpus, tmp_path, monkeypatch):
    seconds = [0.0]

    def clock():
        seconds[0] += 0.25
        return seconds[0]

    def sleep(report):
        seconds[0] += 10_000 * (report.step == 30)

    monkeypatch.setattr("pplm.pretraining.loop.time", SimpleNamespace(perf_counter=clock))
    budget = {"steps": None, "minutes": 0.2, "checkpoint_minutes": 1}  # 12 s: 48 steps of a quarter of a second
    report = train(corpus, tmp_path / "run", changes=budget, on_step=sleep)
    assert 35 < len(report.steps) <= 48
    assert report.steps[-1].lr_share < 0.1
    assert "budget 0.2 minutes; took" in (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")


# --- refusals --------------------------------------------------------------------------------------------------


def test_folders_that_are_not_new_or_hold_no_run_are_refused(corpus, finished, tmp_path):
    with pytest.raises(InputError, match="holds a run already; pass --resume"):
        train(corpus, finished[0])
    with pytest.raises(InputError, match="holds no run to resume; leave out --resume"):
        train(corpus, tmp_path, resume=True)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other things \(mine.txt\); name a new folder"):
        train(corpus, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        train(corpus, tmp_path / "mine.txt")
    with pytest.raises(InputError, match=r"cannot be written: .* is not a folder"):
        train(corpus, tmp_path / "mine.txt" / "model")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_run_stopped_while_it_read_its_texts_can_be_started_again(corpus, finished, tmp_path):
    shutil.copytree(finished[0] / "training" / "tokenizer", tmp_path / "run" / "training" / "tokenizer")
    (tmp_path / "run" / "training" / "training.npy").write_bytes(b"half")
    with pytest.raises(InputError, match="holds no run to resume"):
        train(corpus, tmp_path / "run", resume=True)
    assert curve(train(corpus, tmp_path / "run")) == curve(finished[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"changes": {"tokens_per_step": 31}}, "tokens_per_step must be at least the context of 32"),
        ({"changes": {"block_length": 12}}, "block_length must divide the context of 32"),
        ({"changes": {"validation_fraction": 0.0}}, "validation_fraction is 0"),
        ({"tokenizer": "no/such/place/at/all"}, "does not exist"),
        ({"embeddings_from": "./no"}, "does not exist"),
        ({"validation": ("no.txt",)}, "no.txt does not exist"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(corpus, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        train(corpus, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_corpus_too_short_for_the_context_or_the_vocabulary_leaves_nothing(tmp_path):
    source = write_corpus(tmp_path, ["The moon.", "The star."])
    for vocab_size, message in ((300, "lower it or add text"), (258, "it takes at least 65")):
        shape = Architecture(num_layers=1, width=16, num_heads=2, num_positions=32, vocab_size=vocab_size)
        with pytest.raises(InputError, match=message):
            train(source, tmp_path / "run", shape=shape)
        assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_stops_and_says_what_to_lower(corpus, tmp_path):
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+; .* lower muon_lr and adamw_lr"):
        train(corpus, tmp_path / "run", changes={"adamw_lr": 1e30, "warmup_steps": 0})


# --- continuing a model ----------------------------------------------------------------------------------------


def test_init_goes_on_where_a_model_stopped(corpus, finished, tmp_path):
    report = train(corpus, tmp_path / "more", init=str(finished[0]), changes={"warmup_steps": 0, "seed": 1})
    first, last = finished[1].steps[0].loss, finished[1].steps[-1].loss
    assert abs(report.steps[0].loss - last) < 0.2 * (first - last)
    assert report.validation.nats_per_token < finished[1].validation.nats_per_token
    assert "continued from tiny" in (tmp_path / "more" / "MODEL_CARD.md").read_text(encoding="utf-8")
    one, other = ((folder / "tokenizer.json").read_text() for folder in (finished[0], tmp_path / "more"))
    assert one == other


def other_gpt2(folder, **changes):
    """Write a GPT-2 with dropout, in bfloat16, whose tokenizer of 26 words knows none of the stories'."""
    usual = {"vocab_size": 26, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**{**usual, **changes}, bos_token_id=0, eos_token_id=0)).bfloat16()
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_a_gpt2_with_dropout_untied_and_padded_embeddings_is_trained_further_and_resumed(corpus, tmp_path):
    start = other_gpt2(tmp_path / "other", tie_word_embeddings=False, vocab_size=40)
    whole = train(corpus, tmp_path / "whole", init=start)
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", init=start, on_step=stop_after(5))
    assert curve(train(corpus, tmp_path / "run", init=start, resume=True)) == curve(whole)
    model, _ = pplm.load_model(tmp_path / "run", device="cpu")
    assert not torch.equal(model.lm_head.weight, model.transformer.wte.weight)
    assert "untied embeddings" in (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_models_that_cannot_be_continued_are_refused(corpus, llama, finished, tmp_path):
    llama.save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")
    with pytest.raises(InputError, match="is a LlamaForCausalLM; only a GPT-2"):
        train(corpus, tmp_path / "run", init=str(tmp_path / "llama"))
    with pytest.raises(InputError, match="has 20 embeddings and a tokenizer of 26 tokens"):
        train(corpus, tmp_path / "run", init=other_gpt2(tmp_path / "small", vocab_size=20))
    with pytest.raises(InputError, match="has its own architecture"):
        pplm.pretraining.train_base_model(
            BaseModelRequest(sources=(corpus,), init=str(finished[0])),
            tmp_path / "run",
            settings=settings(),
            architecture=SHAPE,
        )
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_a_beginning_of_text_is_refused(corpus, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    tokenizer.save_pretrained(tmp_path / "words")
    with pytest.raises(InputError, match="has no beginning-of-text token"):
        train(corpus, tmp_path / "run", tokenizer=str(tmp_path / "words"))


def test_another_model_s_tokenizer_is_taken_with_its_size(corpus, tmp_path):
    train(corpus, tmp_path / "run", tokenizer="gpt2-mini", changes={"steps": 1})
    model, tokenizer = pplm.load_model(tmp_path / "run", device="cpu")
    assert model.config.vocab_size == len(tokenizer) == 12288
    assert tokenizer.model_max_length == 32


# --- several processes -----------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(corpus, finished, tmp_path):
    flags = {name.replace("_", "-"): value for name, value in {**vars(settings()), **vars(SHAPE)}.items()}
    options = [part for name, value in flags.items() if value is not None for part in (f"--{name}", str(value))]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*extra):
        command = [sys.executable, *launch, "--main_process_port", free_port(), "-m", "pplm", "train-base"]
        return subprocess.run(  # noqa: S603
            [*map(str, command), str(corpus), "--output", str(tmp_path / "two"), *options, *extra],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("written to")]) == 1
    found, wanted = TrainingFolder(tmp_path / "two").log(), finished[1].steps
    assert [s.tokens for s in found] == [s.tokens for s in wanted]
    torch.testing.assert_close([s.loss for s in found], [s.loss for s in wanted], rtol=1e-3, atol=0)
    again = run()
    assert again.returncode != 0
    assert again.stderr.count("Error: output") == 1
