"""The benchmark measures what it says: plain transformers beside steering, passes, memory, per token and sample."""

import gc
import time
from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import pplm
from attribute_models import Discriminator
from pplm.benchmark import (
    BenchmarkConfig,
    Case,
    count_passes,
    describe_machine,
    in_dtype,
    peak_memory_mb,
    run_benchmark,
)
from pplm.benchmark import memory as memory_module
from pplm.benchmark import run as run_module
from pplm.benchmark.rows import Measured, rows_of

CPU = torch.device("cpu")


def _head(model, tokenizer):
    return Discriminator.from_weights(torch.eye(2, model.config.hidden_size), torch.zeros(2), ["a", "b"], "a")


@pytest.fixture
def factories(bag):
    return {"bag": lambda *_: bag, "discriminator": _head}


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection():
    """The benchmark collects garbage before it measures; what the test run has loaded needs no second look."""
    gc.freeze()
    yield
    gc.unfreeze()


def measure(model, factories, *, progress=None, **settings):
    defaults = {"attributes": ("bag",), "samples": (2,), "prompt_tokens": (4,), "new_tokens": (3,), "repeats": 1}
    return run_benchmark(model, factories, BenchmarkConfig(**{**defaults, **settings}), progress=progress)


@pytest.fixture
def runs(gpt2, monkeypatch):
    """The keywords of every call of the tiny model's `generate`, each of which takes 6 s unsteered and 48 s steered."""
    calls, clock, generate = [], [0.0], gpt2.generate

    def watched(*arguments, **keywords):
        calls.append(keywords)
        clock[0] += 48.0 if "custom_generate" in keywords else 6.0
        return generate(*arguments, **keywords)

    monkeypatch.setattr(gpt2, "generate", watched)
    monkeypatch.setattr(run_module, "perf_counter", lambda: clock[0])
    return calls


def test_seconds_are_per_new_token_and_sample(gpt2, factories, runs):
    (row,) = measure(gpt2, factories, samples=(2,), new_tokens=(3,), repeats=2)
    assert row.unsteered_wall_seconds == (6.0, 6.0)
    assert row.steered_wall_seconds == (48.0, 48.0)
    assert row.unsteered_seconds_per_token == pytest.approx(1.0)
    assert row.steered_seconds_per_token == pytest.approx(8.0)
    assert row.ratio == pytest.approx(8.0)
    assert row.ratio_range == pytest.approx((8.0, 8.0))


def test_every_steered_run_stands_between_two_unsteered_ones_of_the_same_batch(gpt2, factories, runs):
    measure(gpt2, factories, samples=(1, 2), repeats=2, top_k=3, seed=5)
    kinds = ["steered" if "custom_generate" in call else "unsteered" for call in runs]
    sizes = [len(call["attention_mask"]) for call in runs]
    warm_up = 6  # a few tokens to begin with, then each case once
    assert kinds[warm_up:] == ["unsteered", "steered", "unsteered"] * 4
    assert sizes[warm_up:] == [1, 1, 1, 2, 2, 2] * 2
    assert {call["min_new_tokens"] for call in runs[warm_up:]} == {3}
    assert {call["top_k"] for call in runs} == {3}
    assert {call["custom_generate"].seed for call in runs if "custom_generate" in call} == {5}


def test_unsteered_is_plain_decoding(gpt2, factories, runs):
    """The same call without our loop, and one pass a token."""
    (row,) = measure(gpt2, factories)
    assert row.unsteered_passes_per_token == 1
    unsteered, steered = runs[2], runs[3]
    steered = {name: value for name, value in steered.items() if name != "custom_generate"}
    assert set(unsteered) == set(steered)
    assert all(unsteered[name] == steered[name] for name in unsteered if name != "attention_mask")


def test_the_steered_run_steers(gpt2, factories, runs):
    measure(gpt2, factories, preset="paper", steering={"step_size": 0.5})
    loop = next(call["custom_generate"] for call in runs if "custom_generate" in call)
    assert (loop.steering.step_size, loop.steering.num_iterations) == (0.5, 3)
    ids = torch.tensor([[3, 4, 5]])
    output = gpt2.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, pad_token_id=0, return_dict_in_generate=True,
        custom_generate=loop,
    )  # fmt: skip
    losses = output.steering.attribute_loss[0, :, 0]
    assert losses[-1] < losses[0]


def test_a_bag_takes_two_passes_more_an_iteration_and_a_discriminator_four(gpt2, factories):
    def passes(name, iterations):
        steering = {"num_iterations": iterations}
        (row,) = measure(gpt2, factories, attributes=(name,), preset="paper", steering=steering)
        return row.passes_per_token

    assert passes("bag", 5) - passes("bag", 2) == pytest.approx(2 * 3)
    assert passes("discriminator", 5) - passes("discriminator", 2) == pytest.approx(4 * 3)


def test_without_iterations_steered_passes_are_those_of_plain_decoding(gpt2, factories):
    (row,) = measure(gpt2, factories, steering={"num_iterations": 0})
    assert row.passes_per_token == row.unsteered_passes_per_token == 1


def test_a_batch_of_any_size_is_one_pass(gpt2, factories):
    one, five = measure(gpt2, factories, samples=(1, 5))
    assert one.passes_per_token == five.passes_per_token > 2


def test_passes_are_counted_forward_and_backward(model):
    ids = torch.tensor([[3, 4, 5]])
    with count_passes(model) as passes:
        model(ids)
        model.base_model(ids)
        embeddings = model.get_input_embeddings()(ids).requires_grad_()
        model(inputs_embeds=embeddings).logits.sum().backward()
        model(inputs_embeds=embeddings)  # nobody asks for its gradient
    assert (passes.forward, passes.backward, passes.total) == (4, 1, 5)


def test_passes_are_no_longer_counted_afterwards(gpt2):
    with count_passes(gpt2) as passes:
        pass
    gpt2(torch.tensor([[3, 4, 5]]))
    assert passes.total == 0
    assert not gpt2.base_model._forward_hooks


def test_every_combination_is_a_row_in_order(gpt2, factories):
    rows = measure(
        gpt2, factories, attributes=("discriminator", "bag"), samples=(2, 1), dtypes=("float32", "bfloat16"),
        steering={"num_iterations": 1},
    )  # fmt: skip
    assert [(row.attribute, row.samples, row.dtype) for row in rows] == [
        (attribute, samples, dtype)
        for attribute in ("discriminator", "bag")
        for samples in (2, 1)
        for dtype in ("float32", "bfloat16")
    ]
    assert all(row.ratio > 0 and row.passes_per_token >= 3 for row in rows)


def test_comparisons_are_with_the_same_case_in_float32_and_with_one_sample():
    seconds = {("float32", 1): (2.0, 10.0), ("float32", 4): (4.0, 24.0), ("bfloat16", 4): (2.0, 12.0)}
    cases = {key: Case("bag", key[1], 10, 5, key[0]) for key in seconds}
    measured = [(cases[key], Measured([plain], [steered])) for key, (plain, steered) in seconds.items()]
    one, four, lower = rows_of(measured)
    assert (one.ratio, four.ratio, lower.ratio) == pytest.approx((5, 6, 6))
    assert (one.ratio_to_float32, four.ratio_to_float32, lower.ratio_to_float32) == pytest.approx((5, 6, 3))
    # Per token and sample: 24 s for 4 x 5 tokens against 2 s for 5 tokens.
    assert four.ratio_to_one_sample == pytest.approx((24 / 20) / (2 / 5))
    assert lower.ratio_to_one_sample is None


def test_without_float32_in_the_run_nothing_is_compared_with_it():
    (row,) = rows_of([(Case("bag", 4, 10, 5, "bfloat16"), Measured([2.0], [12.0]))])
    assert row.ratio_to_float32 is None
    assert row.ratio_to_one_sample is None


def test_the_median_ignores_a_round_that_was_disturbed():
    result = Measured([1.0, 1.0, 5.0], [8.0, 9.0, 10.0])
    (row,) = rows_of([(Case("bag", 1, 10, 1, "float32"), result)])
    assert row.ratio == pytest.approx(9)
    assert row.ratio_range == pytest.approx((2, 9))


def test_the_model_and_the_random_state_are_left_alone(gpt2, factories):
    weights = {name: weight.clone() for name, weight in gpt2.state_dict().items()}
    config = gpt2.config.to_dict()
    torch.manual_seed(5)
    measure(gpt2, factories, dtypes=("bfloat16", "float32"), steering={"num_iterations": 1})
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert gpt2.dtype == torch.float32
    assert gpt2.config.to_dict() == config
    assert all(torch.equal(weight, weights[name]) for name, weight in gpt2.state_dict().items())


def test_progress_names_every_run(gpt2, factories):
    seen = []
    measure(gpt2, factories, samples=(1, 2), repeats=2, progress=lambda *told: seen.append(told))
    assert [done for done, _, _ in seen] == list(range(6))
    assert {total for _, total, _ in seen} == {6}
    assert "bag, 2 x (4 + 3 tokens), float32" in seen[-1][2]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_copy_in_another_format_is_what_loading_in_it_gives(model, dtype, tmp_path, tokenizer):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    original, _ = pplm.load_model(tmp_path, device="cpu")
    loaded, _ = pplm.load_model(tmp_path, device="cpu", dtype=dtype)
    copy = in_dtype(original, dtype)
    ids = torch.tensor([[3, 4, 5, 6]])
    assert copy.dtype == loaded.dtype == getattr(torch, dtype)
    assert torch.equal(copy(ids).logits, loaded(ids).logits)
    assert in_dtype(original, "float32") is original


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": ()}, r"samples must be a list of different values, at least one; got \(\)"),
        ({"samples": (2, 2)}, "different values"),
        ({"samples": (0,)}, "samples must be a whole number of at least 1; got 0"),
        ({"prompt_tokens": (1.5,)}, "prompt_tokens must be a whole number"),
        ({"new_tokens": (True,)}, "new_tokens must be a whole number"),
        ({"attributes": "bag"}, "attributes must be a list"),
        ({"attributes": ("cat",)}, "attributes must be of bag, discriminator; got 'cat'"),
        ({"dtypes": ("int8",)}, "dtypes must be of float32, bfloat16, float16; got 'int8'"),
        ({"repeats": 0}, "repeats must be a whole number of at least 1; got 0"),
        ({"top_k": -1}, "top_k must be"),
        ({"seed": -1}, "seed must be"),
        ({"steering": {"step_size": -1.0}}, "step_size must be"),
        ({"steering": {"stepsize": 1.0}}, "steering has no setting 'stepsize'"),
        ({"prompt_tokens": (62,)}, "max_new_tokens=3 after a prompt of 62 tokens needs 65 positions, the model has 64"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(settings, message, gpt2, factories, runs):
    with pytest.raises(pplm.InputError, match=message):
        measure(gpt2, factories, **settings)
    assert not runs


def test_the_longest_text_that_fits_is_measured(gpt2, factories):
    (row,) = measure(gpt2, factories, prompt_tokens=(63,), new_tokens=(1,), steering={"num_iterations": 1})
    assert row.passes_per_token >= 3


def test_a_model_that_stops_early_is_refused(gpt2, factories, monkeypatch):
    generate = gpt2.generate
    monkeypatch.setattr(gpt2, "generate", lambda *args, **kwargs: generate(*args, **kwargs)[:, :-1])
    with pytest.raises(pplm.InputError, match="the model stopped after 1 of 2 new tokens"):
        measure(gpt2, factories)


def test_a_case_that_does_not_fit_is_named(gpt2, factories, monkeypatch):
    def full(*arguments, **keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpt2, "generate", full)
    with pytest.raises(pplm.InputError, match=r"bag, 2 x \(4 \+ 3 tokens\), float32 does not fit into memory; lower"):
        measure(gpt2, factories)


MEGABYTES = 40


def _hold(megabytes):
    block = torch.ones(megabytes * 250_000)
    time.sleep(0.05)  # long enough for a sample, also on a busy machine
    return block.sum()


@pytest.mark.parametrize("kernel", [True, False])
def test_peak_memory_is_what_was_held_at_once(kernel, monkeypatch):
    """A block that is gone again counts, one block after another counts once, and what was there before does not."""
    if not kernel:
        monkeypatch.setattr(memory_module, "_reset_high_water", lambda: False)
    before = torch.ones(10_000_000)
    _hold(2 * MEGABYTES)  # what earlier work needed is no part of it
    once = peak_memory_mb(lambda: _hold(MEGABYTES), CPU)
    twice = peak_memory_mb(lambda: [_hold(MEGABYTES), _hold(MEGABYTES)], CPU)
    both = peak_memory_mb(lambda: torch.ones(MEGABYTES * 250_000) + _hold(MEGABYTES), CPU)
    assert once == pytest.approx(MEGABYTES, rel=0.2)
    assert twice == pytest.approx(MEGABYTES, rel=0.2)
    assert both == pytest.approx(2 * MEGABYTES, rel=0.2)
    assert before.sum() == 10_000_000


def test_more_samples_need_more_memory(factories):
    """A vocabulary of 20,000 makes the logits of 24 samples 2 MB a copy, far above what the allocator rounds to."""
    config = GPT2Config(
        vocab_size=20_000, n_positions=16, n_embd=32, n_layer=1, n_head=2, eos_token_id=1, bos_token_id=1
    )
    model = pplm.freeze(GPT2LMHeadModel(config))
    few, many = measure(model, factories, samples=(1, 24), new_tokens=(2,), steering={"num_iterations": 1})
    assert many.peak_memory_mb > few.peak_memory_mb + 4


def test_the_machine_is_described():
    machine = describe_machine(CPU)
    assert machine["threads"] == torch.get_num_threads()
    assert machine["device"] == "cpu"
    assert machine["torch"] == torch.__version__
    assert machine["processor"]


def test_cases_are_told_apart_by_all_they_are_made_of():
    case = Case("bag", 4, 10, 5, "bfloat16")
    assert str(case) == "bag, 4 x (10 + 5 tokens), bfloat16"
    other = Case("head", 5, 11, 6, "float32")
    for name, value in vars(other).items():
        assert len({case, replace(case, **{name: value})}) == 2, name
