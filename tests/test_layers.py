"""Moving only the upper layers: read in two parts, by any architecture, seen by nobody else."""

import threading
from dataclasses import dataclass

import pytest
import torch
import transformers
from helpers import SMALL, STRONG, decode, new_tokens
from transformers import DynamicCache

import pplm
from attribute_models import Discriminator
from pplm import InputError, SteeringConfig
from pplm.cli.sweep import parse_vary
from pplm.text.kv_cache import KeyValueBuffer
from pplm.text.split import SplitModel, moved_layers

GROUPED = {**SMALL, "num_key_value_heads": 2}
FAMILIES = {
    "GPT2": {"vocab_size": 90, "n_positions": 64, "n_embd": 32, "n_layer": 4, "n_head": 4},
    "Llama": GROUPED,
    "Qwen2": GROUPED,
    "Qwen3": {**GROUPED, "head_dim": 8},
    "Gemma": {**GROUPED, "head_dim": 8},
    "Granite": GROUPED,
    "Cohere": GROUPED,
    "Olmo2": GROUPED,
    "StableLm": GROUPED,
    "GPTNeoX": SMALL,
    "GPTJ": {"vocab_size": 90, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "Bloom": {"vocab_size": 90, "hidden_size": 32, "n_layer": 4, "n_head": 4},
    "Falcon": {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4},
    "Opt": {"vocab_size": 90, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
            "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    "Mpt": {"vocab_size": 90, "d_model": 32, "n_layers": 4, "n_heads": 4, "max_seq_len": 64, "use_cache": True},
    "BioGpt": SMALL,
}  # fmt: skip
NAMES = {"GPT2": "GPT2LMHeadModel", "Opt": "OPTForCausalLM"}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def tiny(family):
    """Return a frozen model of four layers with random weights."""
    torch.manual_seed(0)
    config = getattr(transformers, {"Opt": "OPTConfig"}.get(family, f"{family}Config"))(**FAMILIES[family], **SPECIAL)
    model = getattr(transformers, NAMES.get(family, f"{family}ForCausalLM"))(config)
    return pplm.freeze(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_read_in_two_parts_equals_a_whole_pass_with_the_lower_window_left_alone(family):
    model, lower = tiny(family), 3
    ids = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    arguments = {"input_ids": ids[:, -1:], "attention_mask": mask, "use_cache": True, "output_hidden_states": True}

    def cache(*, moved):
        found = DynamicCache()
        model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], past_key_values=found, use_cache=True)
        if moved:
            noise = torch.Generator().manual_seed(1)
            for layer in found.layers[lower:]:
                layer.keys = layer.keys + 0.3 * torch.randn(layer.keys.shape, generator=noise)
                layer.values = layer.values + 0.3 * torch.randn(layer.values.shape, generator=noise)
        return found

    split = SplitModel(model, lower)
    for part, moved in ((split.whole, False), (split.upper, True)):
        expected = model(**arguments, past_key_values=cache(moved=moved))
        found = part(**arguments, past_key_values=cache(moved=moved))
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.hidden_states[-1], expected.hidden_states[-1], rtol=0, atol=1e-5)
    assert (model(**arguments, past_key_values=cache(moved=False)).logits - found.logits).abs().max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_that_looks_at_no_logits_steers_alike_without_the_language_model_head(family, head):
    model, calls = tiny(family), []
    model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))

    @dataclass(frozen=True)
    class ReadsLogits:
        head: Discriminator
        reads_logits = True

        def loss(self, step):
            assert step.logits.shape == (2, 90)
            return self.head.loss(step)

    fields = {**vars(STRONG), "layers": 2, "horizon_length": 0, "kl_scale": 0.0}
    steering, prompts = SteeringConfig(**fields), [[3, 4, 5], [6, 7, 8, 9, 10, 11]]
    counts, runs = [], []
    decode(model, prompts, [head], steering, new=1)  # a model is asked once how it reads padding
    for attribute in (head, ReadsLogits(head)):
        calls.clear()
        runs.append(decode(model, prompts, [attribute], steering, new=4))
        counts.append(len(calls))
    assert counts[1] - counts[0] == 4 * STRONG.num_iterations
    for one, other in zip(runs[0].logits, runs[1].logits, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    assert runs[0].steering.kl[:, :-1].isnan().all()
    torch.testing.assert_close(runs[0].steering.kl[:, -1], runs[1].steering.kl[:, -1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("layers", [0, 1])
def test_without_logits_only_the_last_reading_has_a_kl_whatever_the_layers(model, head, layers):
    fields = {**vars(STRONG), "layers": layers, "horizon_length": 0, "kl_scale": 0.0}
    trace = decode(model, [[3, 4, 5, 6]], [head], SteeringConfig(**fields)).steering
    assert trace.kl.isfinite().any(0).flatten().tolist() == [False] * STRONG.num_iterations + [True]
    held_back = decode(model, [[3, 4, 5, 6]], [head], SteeringConfig(**{**fields, "kl_scale": 5.0})).steering
    assert held_back.kl.isfinite().all()
    assert held_back.kl[0, -1] < trace.kl[0, -1]


class Detached:
    reads_logits = False

    def loss(self, step):
        return step.mean_hidden_state.detach().sum(-1)


class Reads(Detached):
    def loss(self, step):
        return step.log_probs[:, 0]


@pytest.mark.parametrize(
    ("attribute", "words"), [(Detached(), "must keep the autograd graph"), (Reads(), "reads log_probs")]
)
def test_an_attribute_model_that_does_not_do_what_it_says_is_refused(model, attribute, words):
    fields = {**vars(STRONG), "layers": 1, "horizon_length": 0, "kl_scale": 0.0}
    with pytest.raises(InputError, match=words):
        decode(model, [[3, 4, 5, 6]], [attribute], SteeringConfig(**fields))


@pytest.mark.parametrize("layers", [1, 0.5])
def test_only_the_upper_layers_of_the_steered_history_differ(model, bag, layers):
    steering = SteeringConfig(**{**vars(STRONG), "layers": layers})
    plain = decode(model, [[3, 4, 5, 6, 7]], [])
    steered = decode(model, [[3, 4, 5, 6, 7]], [bag], steering)
    assert new_tokens(plain) != new_tokens(steered)
    assert steered.steering.gradient_norms.shape[2] == 1  # of two layers


def test_all_layers_counted_out_are_all_layers_to_the_bit(model, bag, head):
    for attributes in ([bag], [head]):
        whole = decode(model, [[3, 4, 5], [6, 7, 8, 9, 10, 11]], attributes)
        counted = decode(
            model, [[3, 4, 5], [6, 7, 8, 9, 10, 11]], attributes, SteeringConfig(**{**vars(STRONG), "layers": 2})
        )
        assert whole.sequences.equal(counted.sequences)
        for one, other in zip(whole.logits, counted.logits, strict=True):
            assert one.equal(other)


@pytest.mark.parametrize("horizon", [0, 1])
@pytest.mark.parametrize("kind", ["bag", "head"])
def test_a_batch_equals_single_runs_whatever_the_padding(model, request, kind, horizon):
    attribute = request.getfixturevalue(kind)
    steering = SteeringConfig(**{**vars(STRONG), "layers": 1, "horizon_length": horizon})
    prompts = [[3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 13]]
    batch = decode(model, prompts, [attribute], steering, extra=2)
    for row, prompt in enumerate(prompts):
        single = decode(model, [prompt], [attribute], steering)
        assert new_tokens(batch)[row] == new_tokens(single)[0]
        torch.testing.assert_close(batch.logits[-1][row], single.logits[-1][0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("layers", [0, 1, 2, 3, 4, 0.5])
def test_for_every_value_of_layers_a_batch_is_its_single_runs_and_the_weights_stay(bag, layers):
    model, steering = tiny("Llama"), SteeringConfig(**{**vars(STRONG), "layers": layers, "step_size": 0.1})
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    prompts = [[3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 13]]
    batch, wider = (decode(model, prompts, [bag], steering, extra=extra) for extra in (0, 3))
    for row, prompt in enumerate(prompts):
        single = decode(model, [prompt], [bag], steering)
        for found in (batch, wider):
            assert new_tokens(found)[row] == new_tokens(single)[0]
            torch.testing.assert_close(found.logits[-1][row], single.logits[-1][0], rtol=0, atol=1e-4)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_samples_that_skip_or_are_finished_leave_the_others_as_they_were(model, bag):
    steering = SteeringConfig(**{**vars(STRONG), "layers": 1, "skip_weak": 0.5})
    prompts = [[3, 4, 5], [6, 7, 8, 9, 10, 11]]
    batch = decode(model, prompts, [bag], steering, new=8)
    for row, prompt in enumerate(prompts):
        assert new_tokens(batch, 8)[row] == new_tokens(decode(model, [prompt], [bag], steering, new=8), 8)[0]


def test_the_users_model_is_left_as_it_was_also_by_an_interrupt(model, bag):
    modules, weights = dict(model.named_modules()), {k: v.clone() for k, v in model.state_dict().items()}

    class Interrupting:
        name, calls = "interrupting", 0

        def loss(self, step):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return bag.loss(step)

    steering = SteeringConfig(**{**vars(STRONG), "layers": 1})
    before = decode(model, [[3, 4, 5, 6]], [bag], steering)
    with pytest.raises(KeyboardInterrupt):
        decode(model, [[3, 4, 5, 6]], [Interrupting()], steering)
    assert dict(model.named_modules()) == modules
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(weights[name].equal(value) for name, value in model.state_dict().items())
    after = decode(model, [[3, 4, 5, 6]], [bag], steering)
    assert all(one.equal(other) for one, other in zip(before.logits, after.logits, strict=True))


def test_two_threads_on_one_model_do_not_meet(model, bag):
    steering = SteeringConfig(**{**vars(STRONG), "layers": 1})
    prompts = [[3, 4, 5, 6], [9, 8, 7]]
    alone = [decode(model, [prompt], [bag], steering, new=12) for prompt in prompts]
    found = [None, None]

    def work(number):
        found[number] = decode(model, [prompts[number]], [bag], steering, new=12)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, found, strict=True):
        assert all(a.equal(b) for a, b in zip(one.logits, other.logits, strict=True))


def test_hooks_of_the_users_modules_still_run(model, bag):
    seen = []
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    handle = layers[0].register_forward_hook(lambda *_: seen.append(1))
    try:
        decode(model, [[3, 4, 5, 6]], [bag], SteeringConfig(**{**vars(STRONG), "layers": 1}))
    finally:
        handle.remove()
    assert seen


@pytest.mark.parametrize(
    ("layers", "count", "moved"), [(0, 6, 6), (1, 6, 1), (6, 6, 6), (0.5, 6, 3), (0.01, 6, 1), (0.51, 6, 4)]
)
def test_layers_are_counted_from_the_last_and_shares_rounded_up(layers, count, moved):
    assert moved_layers(layers, count) == moved


def test_more_layers_than_the_model_has_are_refused(model, bag):
    with pytest.raises(InputError, match="layers is 3, the model has 2"):
        decode(model, [[3, 4, 5]], [bag], SteeringConfig(layers=3))


@pytest.mark.parametrize("value", [1.0, -1, 1.5, 0.0, float("nan"), True, "2"])
def test_layers_that_mean_nothing_are_refused(value):
    with pytest.raises(InputError, match="layers"):
        SteeringConfig(layers=value)


def test_the_lower_layers_have_one_history(model):
    cache = DynamicCache()
    model(input_ids=torch.tensor([[3, 4, 5], [6, 7, 8]]), past_key_values=cache, use_cache=True)
    buffer = KeyValueBuffer.of(cache, single=1)
    assert [layer[0].shape[0] for layer in buffer.layers] == [2, 4]


def test_the_command_line_takes_a_count_or_a_share_of_layers(command):
    code, _, err = command("generate", "The lake", "--layers", "1.0")
    assert code == 2
    assert "layers must be a whole number of at least 0, or a share between 0 and 1; got 1.0" in err
    code, _, err = command("generate", "The lake", "--layers", "few")
    assert code == 2
    assert parse_vary(["layers=0,2,0.5"]) == {"layers": [0, 2, 0.5]}
    assert type(parse_vary(["layers=2"])["layers"][0]) is int


def test_the_speed_of_upper_layers_shows_in_fewer_readings(model, bag):
    """Lower layers are read once per token, whatever the iterations."""
    readings = []
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    attention = getattr(layers[0], "self_attn", None) or layers[0].attn
    handle = attention.register_forward_hook(lambda *_: readings.append(1))
    try:
        decode(model, [[3, 4, 5, 6]], [bag], SteeringConfig(**{**vars(STRONG), "layers": 1}), new=5)
    finally:
        handle.remove()
    assert len(readings) == 1 + 5  # the prompt, and every new token once
