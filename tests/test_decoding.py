"""The steered loop inside `model.generate`: what steering changes, and what stays as transformers makes it."""

import copy

import pytest
import torch
from helpers import STRONG, decode, flat
from plain_decoding import PROMPT, PROMPTS, attributes_of, plain

import pplm
from attribute_models import Discriminator
from pplm import SteeringConfig
from pplm.attached import Attached, attach

IDENTITIES = {
    "no attributes": ((), STRONG),
    "step size 0": ("bag head", SteeringConfig(step_size=0)),
    "no iterations": ("bag head", SteeringConfig(step_size=0.5, num_iterations=0)),
    "unsteered share alone": ("bag head", SteeringConfig(step_size=0.5, gm_scale=0)),
    "no steered token": ("bag head", SteeringConfig(step_size=0.5, grad_length=0)),
}


# --- nothing changes where nothing is steered -----------------------------------------------------------------


@pytest.mark.parametrize("case", IDENTITIES)
@pytest.mark.parametrize("prompts", [[PROMPT], [[17]], PROMPTS], ids=["one", "one token", "batch"])
def test_settings_that_move_nothing_give_transformers_own_greedy_tokens_and_scores(model, bag, head, case, prompts):
    names, steering = IDENTITIES[case]
    wanted = plain(model, prompts, output_scores=True)
    found = decode(model, prompts, attributes_of(names, bag, head), steering)
    assert torch.equal(found.sequences, wanted.sequences)
    for one, other in zip(found.scores, wanted.scores, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("case", IDENTITIES)
def test_settings_that_move_nothing_give_transformers_own_samples_after_the_same_manual_seed(model, bag, head, case):
    names, steering = IDENTITIES[case]
    arguments = {"do_sample": True, "top_k": 20, "temperature": 1.3, "num_return_sequences": 3}
    torch.manual_seed(4)
    wanted = plain(model, PROMPTS, **arguments)
    torch.manual_seed(4)
    found = decode(model, PROMPTS, attributes_of(names, bag, head), steering, **arguments)
    assert torch.equal(found.sequences, wanted.sequences)


@pytest.mark.parametrize("case", IDENTITIES)
def test_with_a_seed_settings_that_move_nothing_give_the_text_of_no_attributes(gpt2, bag, head, case):
    names, steering = IDENTITIES[case]
    arguments = {"do_sample": True, "num_return_sequences": 2, "loop": {"seed": 3}}
    wanted = decode(gpt2, PROMPTS, (), STRONG, **arguments)
    found = decode(gpt2, PROMPTS, attributes_of(names, bag, head), steering, **arguments)
    assert torch.equal(found.sequences, wanted.sequences)


def test_past_grad_length_nothing_is_steered_but_the_moved_history_stays(gpt2, bag):
    short = SteeringConfig(step_size=0.3, gamma=1.0, grad_length=2)
    output = decode(gpt2, [PROMPT], [bag], short)
    long = decode(gpt2, [PROMPT], [bag], SteeringConfig(step_size=0.3, gamma=1.0))
    assert output.steering.kl[:2].isfinite().all()
    assert output.steering.kl[2:].isnan().all()
    for step in range(2):
        assert torch.equal(output.logits[step], long.logits[step])
    # Fed with the steered text's own tokens, the unsteered model gives other logits at the third token.
    unsteered = gpt2(output.sequences[:, :7]).logits[:, -1]
    assert (output.logits[2] - unsteered).abs().max() > 1e-2


def test_the_running_norm_is_carried_from_token_to_token_and_started_anew_for_each_call(gpt2, bag):
    carried = SteeringConfig(step_size=0.1, gamma=1.0, num_iterations=1, norm_rule="running_max")
    own = SteeringConfig(step_size=0.1, gamma=1.0, num_iterations=1, norm_rule="current")
    one, two, again = (decode(gpt2, [PROMPT], [bag], steering, new=8) for steering in (carried, own, carried))
    assert torch.equal(one.logits[0], two.logits[0])
    # From the second token on an earlier, larger norm shortens the step.
    norms = one.steering.gradient_norms[:, 0, :, 0]
    assert (norms[1:] < norms.cummax(0).values[1:]).any()
    assert not all(torch.equal(a, b) for a, b in zip(one.logits, two.logits, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.logits, again.logits, strict=True))


# --- steering acts --------------------------------------------------------------------------------------------


def test_a_sizeable_step_changes_the_text(model, bag, head):
    unsteered = plain(model, PROMPTS).sequences
    for attributes in ([bag], [head], [bag, head]):
        assert not torch.equal(decode(model, PROMPTS, attributes).sequences, unsteered)


def test_steering_lowers_the_loss_over_the_iterations(model, bag, head):
    gentle = SteeringConfig(step_size=0.05, num_iterations=6, gamma=1.0, window_length=0, norm_rule="current")
    for attribute in (bag, head):
        losses = decode(model, [PROMPT], [attribute], gentle).steering.attribute_loss[..., 0]
        assert (losses[:, -1] < losses[:, 0]).all()


def test_steering_raises_the_share_of_bag_tokens(gpt2, bag):
    prompts = [[number, number + 1, number + 2] for number in range(12)]
    arguments = {"do_sample": True, "loop": {"seed": 0}, "new": 10}

    def share(steering):
        tokens = decode(gpt2, prompts, [bag], steering, **arguments).sequences[:, 3:]
        return torch.isin(tokens, torch.tensor([entry.token_ids[0] for entry in bag.entries])).float().mean()

    strong = SteeringConfig(step_size=1.0, num_iterations=5, gamma=1.0, norm_rule="current")
    assert share(strong) > 3 * share(SteeringConfig(step_size=0)) + 0.1


def test_the_kl_weight_keeps_the_steered_distribution_closer(gpt2, bag):
    def divergence(kl_scale):
        steering = SteeringConfig(step_size=0.1, num_iterations=8, gamma=1.0, kl_scale=kl_scale, norm_rule="current")
        return decode(gpt2, [PROMPT], [bag], steering, new=1).steering.kl[0, -1, 0]

    assert divergence(5.0) < 0.7 * divergence(0.0)


def test_a_weight_scales_an_attribute_and_zero_switches_it_off(gpt2, bag, head):
    alone = decode(gpt2, [PROMPT], [head])
    mixed = decode(gpt2, [PROMPT], [(head, 1.0), (bag, 0.0)])
    assert torch.equal(alone.sequences, mixed.sequences)
    torch.testing.assert_close(alone.steering.attribute_loss, mixed.steering.attribute_loss)
    trace = decode(gpt2, [PROMPT], [(head, 0.5), (bag, 2.0)]).steering
    torch.testing.assert_close(
        trace.attribute_loss, 0.5 * trace.attribute_losses[:, :, 0] + 2.0 * trace.attribute_losses[:, :, 1]
    )
    assert trace.names == ("head", "bag")


def test_an_attribute_of_weight_zero_alone_is_plain_decoding_whatever_the_kl_weight(gpt2, bag):
    steering = SteeringConfig(step_size=0.3, num_iterations=3, kl_scale=1.0)
    output = decode(gpt2, [PROMPT], [(bag, 0.0)], steering)
    assert torch.equal(output.sequences, decode(gpt2, [PROMPT]).sequences)
    assert output.steering.kl.nan_to_num().eq(0).all()


def test_weights_keep_their_bits_and_get_no_gradient_frozen_or_not(gpt2, bag, head):
    before = {name: tensor.clone() for name, tensor in gpt2.state_dict().items()}
    frozen = decode(gpt2, [PROMPT], [bag, head])
    try:
        gpt2.requires_grad_(True)
        thawed = decode(gpt2, [PROMPT], [bag, head])
        assert all(p.grad is None and p.requires_grad for p in gpt2.parameters())
    finally:
        gpt2.requires_grad_(False)
    assert torch.equal(frozen.sequences, thawed.sequences)
    assert all(torch.equal(tensor, before[name]) for name, tensor in gpt2.state_dict().items())
    for thing in (*thawed.scores, *thawed.logits, *flat([[x.keys, x.values] for x in thawed.past_key_values.layers])):
        assert not thing.requires_grad


def test_a_user_s_own_class_with_one_loss_method_steers(model):
    class Avoid:
        def loss(self, step):
            return step.log_probs[:, 40:60].logsumexp(-1)

    output = decode(model, PROMPTS, [Avoid()])
    losses = output.steering.attribute_loss[:, :, 0]
    assert output.steering.names == ("Avoid",)
    assert (losses[:, -1] < losses[:, 0]).all()


def test_an_attribute_model_sees_the_text_so_far(gpt2):
    seen = []

    class Look:
        def loss(self, step):
            seen.append((step.input_ids.clone(), step.attention_mask.clone()))
            torch.testing.assert_close(step.log_probs, step.logits.log_softmax(-1))
            assert step.mean_hidden_state.shape == (2, 32)
            return step.log_probs[:, 3]

    output = decode(gpt2, PROMPTS[:2], [Look()], SteeringConfig(num_iterations=1), new=3)
    assert len(seen) == 3 * 2  # before the one iteration of each token and after it
    for number, (ids, mask) in enumerate(seen[::2]):
        assert torch.equal(ids, output.sequences[:, : 5 + number])
        assert mask.dtype == torch.bool
        assert mask.sum(1).tolist() == [5 + number, 3 + number]


def test_one_attribute_needs_no_list_and_two_of_a_name_are_told_apart(gpt2, bag):
    assert len(pplm.steered_decoding(bag).attributes) == 1
    trace = decode(gpt2, [PROMPT], [bag, bag], new=1).steering
    assert trace.names == ("bag", "bag#2")


@pytest.mark.parametrize("own", [{}, {"bag_of_words": {"num_iterations": 2}, "discriminator": {"gamma": 0.5}}])
def test_without_settings_the_model_s_preset_is_taken_or_the_general_one(gpt2, bag, head, own):
    model, presets = copy.copy(gpt2), pplm.SteeringPresets(paper=own)
    attach(model, Attached(presets=presets))
    for attributes in ([bag], [bag, head]):
        wanted = SteeringConfig.for_attributes(attributes, presets=presets)
        found, same = (decode(model, [PROMPT], attributes, settings, new=2) for settings in (None, wanted))
        assert torch.equal(found.steering.kl, same.steering.kl)
        assert len(found.steering.kl[0]) == wanted.num_iterations + 1


# --- modes of torch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_caller_s_autograd_mode_changes_nothing(model, bag, head, mode):
    wanted = decode(model, PROMPTS, [bag, head])
    with mode():
        found = decode(model, PROMPTS, [bag, head])
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert torch.equal(found.sequences, wanted.sequences)
    assert torch.equal(found.steering.attribute_loss.nan_to_num(), wanted.steering.attribute_loss.nan_to_num())


@pytest.mark.parametrize("names", ["bag", "head"])
def test_a_cache_made_in_inference_mode_can_be_used_inside_and_outside(model, bag, head, names):
    attributes = attributes_of(names, bag, head)
    wanted = decode(model, [PROMPT], attributes).sequences
    with torch.inference_mode():
        inside, outside = (model(torch.tensor([PROMPT[:3]])).past_key_values for _ in range(2))
        assert torch.equal(decode(model, [PROMPT], attributes, past_key_values=inside).sequences, wanted)
    assert torch.equal(decode(model, [PROMPT], attributes, past_key_values=outside).sequences, wanted)


def test_a_head_made_in_inference_mode_steers(gpt2, head):
    with torch.inference_mode():
        made = Discriminator.from_weights(head.weight.clone(), head.bias.clone(), head.labels, "b")
        inside = decode(gpt2, [PROMPT], [made]).sequences
    assert torch.equal(inside, decode(gpt2, [PROMPT], [head]).sequences)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_steered(gpt2, bag, head, dtype):
    half = copy.deepcopy(gpt2).to(dtype)
    output = decode(half, PROMPTS, [bag, head])
    assert output.scores[0].dtype == torch.float32
    assert output.steering.attribute_loss[:, :, 0].isfinite().all()
    assert not torch.equal(output.sequences, plain(half, PROMPTS).sequences)
