"""The dial: a strength in nats, which no token exceeds and every model spends alike."""

import copy
from itertools import pairwise

import pytest
import torch
from helpers import PROMPTS, UNEVEN, decode, dial, new_tokens

import pplm
from attribute_models import BagOfWords
from pplm import SteeringConfig
from pplm.presets import MAX_DIVERGENCE
from pplm.text.dial import Dial
from pplm.text.distributions import kl_from_log_probs

pytestmark = pytest.mark.filterwarnings("ignore:target .* is not reached:pplm.SteeringWarning")


def unsteered_logits(model, output, prompt_length, token):
    return model(output.sequences[:, : prompt_length + token]).logits[:, -1].float()


# --- strength ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["bag", "head", "bag head"])
def test_no_token_diverges_by_more_than_the_budget(model, bag, head, names):
    attributes = [{"bag": bag, "head": head}[name] for name in names.split()]
    steering = dial(attributes, strength=0.4)
    output = decode(model, PROMPTS, attributes, steering)
    spent = output.steering.final_kl
    assert (spent <= steering.budget * 1.001).all()
    assert spent.max() > 0.9 * steering.budget


def test_the_divergence_that_is_reported_is_that_of_what_the_tokens_are_drawn_from(gpt2, bag):
    for steering in (dial([bag], strength=0.4), SteeringConfig(step_size=0.3, gm_scale=0.7)):
        output = decode(gpt2, PROMPTS, [bag], steering, new=4)
        for token in range(4):
            own = unsteered_logits(gpt2, output, 5, token).log_softmax(-1)
            expected = kl_from_log_probs(output.logits[token].log_softmax(-1), own)
            torch.testing.assert_close(output.steering.final_kl[token], expected, atol=1e-5, rtol=1e-3)
    assert output.steering.gm_scale.eq(0.7).all()
    assert decode(gpt2, PROMPTS, new=2).steering.final_kl.eq(0).all()


def test_strength_0_is_unsteered_and_more_strength_is_never_weaker(model, bag):
    plain = decode(model, PROMPTS)
    output = decode(model, PROMPTS, [bag], dial([bag], strength=0.0))
    assert torch.equal(output.sequences, plain.sequences)
    assert all(torch.equal(one, other) for one, other in zip(output.logits, plain.logits, strict=True))
    mass, spent = [], []
    for strength in (0.0, 0.2, 0.5, 0.8, 1.0):
        first = decode(model, PROMPTS, [bag], dial([bag], strength=strength), new=1)
        mass.append(first.logits[0].softmax(-1)[:, [t for e in bag.entries for t in e.token_ids]].sum(1))
        spent.append(first.steering.final_kl[0])
    for numbers in (mass, spent):
        assert all((later >= earlier - 1e-6).all() for earlier, later in pairwise(numbers))
    assert (mass[-1] > mass[0]).all()


def test_a_low_strength_takes_shorter_steps_rather_than_a_smaller_weight(model, bag, head):
    for attribute in (bag, head):
        steering = dial([attribute], strength=0.1)
        first = decode(model, PROMPTS, [attribute], steering, new=1).steering
        assert (first.gm_scale > 0.3 * steering.gm_scale).all()


def test_what_earlier_tokens_left_is_scaled_back_where_it_exceeds_the_budget_alone(gpt2, bag):
    strong = dial([bag], strength=1.0, num_iterations=5, grad_length=3)
    carried = decode(gpt2, PROMPTS, [bag], strong, new=8).steering
    limit = 0.5 * float(carried.final_kl[3:].max())
    assert limit > 0
    strength = (limit / MAX_DIVERGENCE) ** 0.5
    step = {"step_size": 8.0 / strength, "gamma": 1.0, "norm_rule": "running_max", "window_length": 5}
    weak = dial([bag], strength=strength, num_iterations=5, grad_length=3, steps={"bag_of_words": step})
    record = decode(gpt2, PROMPTS, [bag], weak, new=8).steering
    assert record.kl[3:].isnan().all()  # nothing is added any more
    assert (record.final_kl <= limit * 1.001).all()
    scaled_back = record.gm_scale[3:] < weak.gm_scale
    assert scaled_back.any()
    assert (record.final_kl[3:][scaled_back] > 0.9 * limit).all()


@pytest.mark.parametrize(("name", "fields", "follows"), [
    ("bag", {"strength": 0.5}, True), ("head", {"strength": 0.5}, False), ("bag", {"target": 0.05}, False),
])  # fmt: skip
def test_steps_of_bags_grow_less_after_a_token_whose_gradient_is_weak(
    gpt2, bag, head, monkeypatch, name, fields, follows
):
    def pushes(share):
        found = []

        class Watched(Dial):
            def fuse(self, text, steered_logits, reach):
                fused = super().fuse(text, steered_logits, share * reach)
                found.append(self.push)
                return fused

        monkeypatch.setattr("pplm.text.dial.Dial", Watched)
        own = {"bag": bag, "head": head}[name]
        decode(gpt2, PROMPTS, [own], dial([own], **fields), new=1)
        return found[0]

    strong, weak = pushes(1.0), pushes(0.1)
    assert (weak < strong).all() if follows else torch.equal(weak, strong)


def test_gm_scale_bounds_the_weight_that_the_dial_takes(gpt2, bag):
    record = decode(gpt2, PROMPTS, [bag], dial([bag], strength=1.0, gm_scale=0.2)).steering
    assert record.gm_scale.max() == pytest.approx(0.2)


@pytest.mark.parametrize("fields", [{"strength": 0.5}, {"target": {"bag": 0.2}}, {"target": {"head": 0.7, "bag": 0.1}}])
def test_a_batch_gives_what_each_text_gives_alone(model, bag, head, fields):
    attributes = [bag, head]
    together = decode(model, UNEVEN, attributes, dial(attributes, **fields), extra=2)
    for row, prompt in enumerate(UNEVEN):
        alone = decode(model, [prompt], attributes, dial(attributes, **fields))
        assert new_tokens(together)[row] == new_tokens(alone)[0]
        torch.testing.assert_close(
            together.steering.final_kl[:, row], alone.steering.final_kl[:, 0], atol=2e-4, rtol=1e-2
        )
        torch.testing.assert_close(
            together.steering.levels[:, :, row], alone.steering.levels[:, :, 0], atol=2e-3, rtol=1e-2, equal_nan=True
        )


def test_the_weights_and_the_random_numbers_are_left_alone(gpt2, bag):
    before = copy.deepcopy(gpt2.state_dict())
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    decode(gpt2, PROMPTS, [bag], dial([bag], target=0.3))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in gpt2.state_dict().items())
    assert all(parameter.grad is None for parameter in gpt2.parameters())


@pytest.mark.parametrize(
    "fields",
    [{"steer_every": 2}, {"grad_length": 2}, {"skip_below": 3.0}, {"skip_weak": 0.5}, {"layers": 1}, {"decay": True},
     {"kl_scale": 0.1}, {"horizon_length": 1}, {"num_iterations": 3}],
)  # fmt: skip
@pytest.mark.parametrize("request_", [{"strength": 0.4}, {"target": {"bag": 0.06, "head": 0.6}, "strength": 0.4}])
def test_the_dial_composes_with_every_other_setting(gpt2, bag, head, fields, request_):
    attributes = [bag, (head, 0.5)]
    steering = dial(attributes, **fields, **request_)
    output = decode(gpt2, UNEVEN, attributes, steering)
    spent = output.steering.final_kl
    assert (spent <= steering.budget * 1.001).all()
    assert spent.max() > 0
    alone = decode(gpt2, [UNEVEN[2]], attributes, steering)
    assert new_tokens(output)[2] == new_tokens(alone)[0]


def test_the_dial_composes_with_candidates_and_with_conversations(gpt2, tokenizer, chat):
    sky = BagOfWords.from_words(["moon", "star"], tokenizer, name="sky")
    request = {"steering": dial([sky], strength=0.4), "attributes": [sky], "max_new_tokens": 4, "seed": 0}
    (text,) = pplm.generate(gpt2, tokenizer, "The lake", rerank=pplm.Rerank(2, min_distinct=0), **request)
    assert set(text.levels) == {"sky"}
    model, own = chat
    answer = pplm.generate(model, own, [{"role": "user", "content": "The sea"}], **request | {
        "attributes": [BagOfWords.from_words(["moon"], own, name="sky")]})[0]  # fmt: skip
    assert 0 < max(answer.final_kl) <= MAX_DIVERGENCE * 0.4**2 * 1.001


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_to_the_budget(gpt2, bag, dtype):
    half = copy.deepcopy(gpt2).to(dtype)
    steering = dial([bag], strength=0.5)
    spent = decode(half, PROMPTS, [bag], steering).steering.final_kl
    assert (spent <= steering.budget * 1.01).all()
    assert spent.max() > 0.5 * steering.budget
