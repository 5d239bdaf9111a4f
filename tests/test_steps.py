"""Several attributes, each with a step of its own kind, which are added."""

import dataclasses

import pytest
import torch
from helpers import STRONG, decode, flat, new_tokens

import pplm
from attribute_models import Avoid, BagOfWords
from pplm import InputError, SteeringConfig, Step, steer
from pplm.interface import SteeringStep

PROMPTS = [[5, 17, 33, 8, 40, 2, 61], [61, 4, 44]]
BAG_STEP = Step(step_size=0.2, gamma=1.5, norm_rule="running_max", window_length=2)
HEAD_STEP = Step(step_size=0.1, gamma=1.0, norm_rule="current", window_length=0)
STEPS = {"bag_of_words": BAG_STEP, "discriminator": HEAD_STEP}
OWN = SteeringConfig(num_iterations=2, kl_scale=0.02, gm_scale=0.9, horizon_length=0, steps=STEPS)


class Idle:
    """An attribute model that can act on no text."""

    may_be_idle = True

    def loss(self, step: SteeringStep):
        return step.logits[:, 0] * 0 + torch.inf


def alone(step, **fields):
    """Return the settings of one attribute alone that takes this step."""
    return OWN.changed(steps={}, **{**vars(step), **fields})


def same(one, other):
    return all(
        torch.equal(getattr(one.steering, name), getattr(other.steering, name)) for name in ("kl", "gradient_norms")
    ) and all(torch.equal(a, b) for a, b in zip(one.logits, other.logits, strict=True))


# --- the core ---------------------------------------------------------------------------------------------------


def two_losses(state):
    """Two losses of one sample each way, and a divergence from the ones of the state."""
    tensor = state[0][0]
    return torch.stack([tensor.sum(1), (tensor**2).sum(1) / 2]), ((tensor - 1) ** 2).sum(1)


def state():
    return [[torch.tensor([[3.0, 4.0], [1.0, 2.0]])], [torch.tensor([[1.0], [2.0]])]]


def test_from_where_it_starts_the_steps_of_two_losses_are_those_of_each_alone_added():
    settings = SteeringConfig(num_iterations=1, kl_scale=0.5)
    together = steer(state(), two_losses, settings, steps=[BAG_STEP, HEAD_STEP])
    moved = [torch.zeros_like(t) for t in flat(state())]
    for number, step in enumerate((BAG_STEP, HEAD_STEP)):
        one = steer(
            state(),
            lambda moved, number=number: (two_losses(moved)[0][number], two_losses(moved)[1]),
            dataclasses.replace(settings, **vars(step)),
        )
        moved = [so_far + new - old for so_far, new, old in zip(moved, flat(one.state), flat(state()), strict=True)]
        assert torch.equal(together.norms[number], one.norms)
    for new, old, wanted in zip(flat(together.state), flat(state()), moved, strict=True):
        torch.testing.assert_close(new - old, wanted)
    assert together.attribute_loss.shape == (1, 2, 2)
    torch.testing.assert_close(together.gradient_norms[0], together.norms.norm(dim=0))


@pytest.mark.parametrize("rule", ["current", "running_max"])
def test_one_step_of_its_own_is_the_settings_own_to_the_bit(rule):
    step = Step(step_size=0.3, gamma=1.5, norm_rule=rule, window_length=0)
    settings = SteeringConfig(num_iterations=3, kl_scale=0.1, **vars(step))
    weights = torch.tensor([1.0, 0.5])

    def second(moved):
        losses, divergence = two_losses(moved)
        return losses[1], divergence

    one = steer(state()[:1], second, settings, weights=weights)
    own = steer(
        state()[:1],
        lambda moved: (two_losses(moved)[0][1:], two_losses(moved)[1]),
        settings,
        steps=[step],
        weights=[weights],
    )
    assert torch.equal(one.state[0][0], own.state[0][0])
    assert torch.equal(one.norms, own.norms[0])
    assert torch.equal(one.gradient_norms, own.gradient_norms)


def test_a_loss_that_cannot_act_on_a_sample_moves_it_by_nothing_the_divergence_included():
    def objective(moved):
        losses, divergence = two_losses(moved)
        cannot = torch.tensor([[True, False], [False, False]])
        return torch.where(cannot, torch.inf, losses), divergence

    settings = SteeringConfig(num_iterations=1, kl_scale=0.5)
    first = steer(state(), objective, settings, steps=[HEAD_STEP, dataclasses.replace(HEAD_STEP, step_size=0.0)])
    assert torch.equal(first.state[0][0][0], state()[0][0][0])
    assert not torch.equal(first.state[0][0][1], state()[0][0][1])


def test_losses_that_are_not_one_per_step_and_sample_are_refused():
    with pytest.raises(InputError, match=r"one number per step and sample, shape \(3, 2\); got \(2, 2\)"):
        steer(state(), two_losses, SteeringConfig(), steps=[BAG_STEP] * 3)


# --- a text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bag", "head"])
def test_one_attribute_with_a_step_of_its_own_is_steered_as_without_to_the_bit(gpt2, request, kind):
    attribute, step = request.getfixturevalue(kind), BAG_STEP if kind == "bag" else HEAD_STEP
    assert same(decode(gpt2, PROMPTS, [attribute], OWN), decode(gpt2, PROMPTS, [attribute], alone(step)))


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("decay", [False, True])
def test_a_mixture_in_a_batch_is_its_single_runs(model, bag, head, layers, decay):
    settings = OWN.changed(layers=layers, decay=decay)
    attributes = [bag, (head, 2.0), Avoid(BagOfWords.from_token_ids([4, 7], 90))]
    together = decode(model, PROMPTS, attributes, settings, extra=3)
    for row, prompt in enumerate(PROMPTS):
        single = decode(model, [prompt], attributes, settings)
        assert new_tokens(single)[0] == new_tokens(together)[row]
        torch.testing.assert_close(
            single.steering.attribute_losses[..., 0],
            together.steering.attribute_losses[..., row],
            rtol=1e-3,
            atol=1e-4,
            equal_nan=True,
        )


def test_each_attribute_is_steered_further_than_by_the_other_alone(gpt2, bag, head):
    def final(attributes, settings):
        return decode(gpt2, PROMPTS, attributes, settings, new=1).steering.attribute_losses[0, -1].mean(1)

    both = final([bag, head], OWN)
    by_bag = final([bag, (head, 0.0)], OWN)
    by_head = final([(bag, 0.0), head], OWN)
    assert both[0] < by_head[0]
    assert both[1] < by_bag[1]


def test_a_weight_is_a_factor_on_the_attributes_own_step(gpt2, bag, head):
    doubled = {**STEPS, "discriminator": dataclasses.replace(HEAD_STEP, step_size=0.2)}
    weighted = decode(gpt2, PROMPTS, [bag, (head, 2.0)], OWN)
    longer = decode(gpt2, PROMPTS, [bag, head], OWN.changed(steps=doubled))
    assert same(weighted, longer)


@pytest.mark.parametrize("other", [0.0, Idle()], ids=["weight 0", "idle"])
def test_an_attribute_that_does_not_act_leaves_the_others_as_they_would_be(gpt2, bag, head, other):
    other = (head, other) if other == 0.0 else other
    beside, single = (decode(gpt2, PROMPTS, attributes, OWN) for attributes in ([bag, other], [bag]))
    assert all(torch.equal(a, b) for a, b in zip(beside.logits, single.logits, strict=True))


def test_each_step_moves_its_own_window(gpt2, bag, head):
    """A bag's window of 2 beside a head of weight 0, which moves nothing of all the history."""
    output = decode(gpt2, PROMPTS[:1], [bag, (head, 0.0)], OWN, new=1)
    narrow = decode(gpt2, PROMPTS[:1], [bag], alone(BAG_STEP), new=1)
    wide = decode(gpt2, PROMPTS[:1], [bag], alone(BAG_STEP, window_length=0), new=1)
    assert torch.equal(output.logits[0], narrow.logits[0])
    assert not torch.equal(output.logits[0], wide.logits[0])


@pytest.mark.parametrize("skip", [{"skip_below": 1e9}, {"skip_weak": 1.0}])
def test_sparse_steering_looks_at_all_attributes(gpt2, bag, head, skip):
    output = decode(gpt2, PROMPTS, [bag, head], OWN.changed(**skip))
    steered = output.steering.kl.isfinite().any(1)
    dense = decode(gpt2, PROMPTS, [bag, head], OWN).steering.kl.isfinite().any(1)
    assert steered.sum() < dense.sum()
    if "skip_weak" in skip:  # the first gradient is the longest so far
        assert steered[0].all()


def test_half_precision_moves_by_each_step(gpt2, bag, head):
    half = pplm.freeze(type(gpt2)(gpt2.config)).to(torch.bfloat16)
    half.load_state_dict(gpt2.state_dict())
    texts = [new_tokens(decode(half, PROMPTS, [bag, head], settings)) for settings in (OWN, OWN.changed(step_size=0))]
    assert texts[0] != texts[1]


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"preset": "fast", "step_size": 0.5}, {"strength": 0.5}])
def test_the_preset_fast_and_the_dial_give_every_kind_its_own_step_and_paper_none(bag, head, fields):
    def chosen(*attributes):
        return SteeringConfig.for_attributes(attributes, **fields)

    both = chosen(bag, head)
    for kind, attribute in (("bag_of_words", bag), ("discriminator", head)):
        assert both.steps[kind] == chosen(attribute).step_of(kind)
    avoiding = chosen(bag, Avoid(bag))
    assert set(avoiding.steps) == {"bag_of_words", "avoidance"}
    assert avoiding.steps["avoidance"] == chosen(Avoid(bag)).step_of("avoidance")
    assert avoiding.steps["avoidance"].norm_rule == "current"
    assert SteeringConfig.for_attributes([bag, head], preset="paper").steps == {}


def test_a_model_s_own_mixture_may_name_steps(bag, head):
    own = {"fast": {"mixture": {"steps": {"bag_of_words": vars(BAG_STEP)}}, "discriminator": {"step_size": 0.7}}}
    found = SteeringConfig.for_attributes([bag, head], presets=own)
    assert found.steps["bag_of_words"] == BAG_STEP
    assert found.steps["discriminator"].step_size == 0.7
    avoiding = SteeringConfig.for_attributes([Avoid(bag), head], presets=own)
    assert set(avoiding.steps) == {"avoidance", "discriminator"}


def test_fields_of_a_step_that_a_model_s_mixture_names_once_hold_for_every_kind(bag, head):
    found = SteeringConfig.for_attributes([bag, head], presets={"fast": {"mixture": {"step_size": 0.7}}})
    assert [(step.step_size, step.gamma) for step in found.steps.values()] == [(0.7, 1.5), (0.7, 1.0)]
    own = {"fast": {"bag_of_words": {"step_size": 0.4}, "mixture": {"step_size": 0.7}}}
    bags = SteeringConfig.for_attributes([bag, Avoid(bag)], presets=own)
    assert 0.7 not in [step.step_size for step in bags.steps.values()]  # two bags are no mixture


def test_a_kind_without_a_step_of_its_own_moves_by_the_settings_own(gpt2, bag):
    still = {"discriminator": dataclasses.replace(HEAD_STEP, step_size=0.0)}
    own = dataclasses.replace(alone(BAG_STEP), steps=still)
    assert own.moves
    assert same(decode(gpt2, PROMPTS, [bag], own), decode(gpt2, PROMPTS, [bag], alone(BAG_STEP)))


def test_steps_that_are_all_zero_move_nothing_whatever_the_common_step():
    still = dataclasses.replace(BAG_STEP, step_size=0.0)
    steps = dict.fromkeys(("bag_of_words", "avoidance", "discriminator"), still)
    assert not SteeringConfig(step_size=0.03, steps=steps).moves
    assert SteeringConfig(step_size=0.03, steps={**steps, "avoidance": BAG_STEP}).moves


def test_an_explicit_field_of_a_step_holds_for_every_attribute(bag, head):
    found = SteeringConfig.for_attributes([bag, head], preset="fast", step_size=0.25, window_length=3)
    assert [(step.step_size, step.window_length) for step in found.steps.values()] == [(0.25, 3)] * 2
    assert [step.gamma for step in found.steps.values()] == [1.5, 1.0]
    assert not found.changed(step_size=0).moves


def test_a_field_of_one_kind_s_step_is_named_with_a_dot(bag, head):
    found = SteeringConfig.for_attributes([bag, head], step_size=0.3, **{"discriminator.step_size": 0.1})
    assert [step.step_size for step in found.steps.values()] == [0.3, 0.1]
    for name in ("discriminator.gm_scale", "head.step_size"):
        with pytest.raises(InputError, match=f"{name} is a field of no step here"):
            found.changed(**{name: 0.1})
    with pytest.raises(InputError, match="kinds with a step of their own: none"):
        SteeringConfig.for_attributes([bag], **{"bag_of_words.step_size": 0.1})
    with pytest.raises(InputError, match="no setting 'stepsize'"):
        found.changed(stepsize=1)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"bags": BAG_STEP}, "steps must be named by kind: bag_of_words, avoidance, discriminator; got 'bags'"),
        ({"discriminator": {"step_size": 1.0}}, "the step of discriminator must have the fields step_size, gamma"),
        (3, "steps must be a table of steps"),
    ],
)
def test_steps_that_mean_nothing_are_refused(steps, words):
    with pytest.raises(InputError, match=words):
        SteeringConfig(steps=steps)


def test_a_step_is_checked_as_the_settings_are():
    with pytest.raises(InputError, match="step_size must be finite and at least 0"):
        dataclasses.replace(BAG_STEP, step_size=-1.0)


def test_steps_that_leave_no_number_are_named_with_the_weights_in_use(gpt2, bag, head):
    wild = OWN.changed(**{"discriminator.step_size": 1e38, "bag_of_words.gamma": 0.0, "step_size": 1e38})
    for attributes, named in (
        ([bag, head], r"bag_of_words.step_size \(now 1e\+38\), discriminator.step_size \(now 1e\+38\)"),
        ([(bag, 2)], r"bag_of_words.step_size \(now 1e\+38\), the weight of 'bag' \(now 2\)"),
        ([head], r"discriminator.step_size \(now 1e\+38\)"),
        ([Avoid(bag)], r"step_size \(now 1e\+38\)"),  # of a kind without a step of its own
    ):
        with pytest.raises(InputError, match=rf"not a number; lower {named} or num_iterations \(now 2\)"):
            decode(gpt2, PROMPTS, attributes, wild)


def test_a_weight_that_makes_a_step_longer_than_float32_holds_is_named(gpt2, bag, head):
    expected = r"step_size \(20\) times the weight of 'bag' \(3e\+38\) must be at most 3.4e\+38"
    with pytest.raises(InputError, match=expected):
        decode(gpt2, PROMPTS, [(bag, 3e38), head], OWN.changed(step_size=20.0))


def test_the_weights_of_the_model_stay_as_they_were(gpt2, bag, head):
    before = {name: tensor.clone() for name, tensor in gpt2.state_dict().items()}
    decode(gpt2, PROMPTS, [bag, head], OWN)
    assert all(torch.equal(tensor, before[name]) for name, tensor in gpt2.state_dict().items())
    assert all(parameter.grad is None for parameter in gpt2.parameters())


def test_the_command_line_names_the_steps_and_says_what_an_explicit_one_does(command):
    request = ["generate", "The lake", "--bag", "space", "--discriminator", "sentiment:positive", "--greedy"]
    code, _, err = command(*request, "--max-new-tokens", "2")
    assert code == 0
    line = next(line for line in err.splitlines() if line.startswith("steering:"))
    assert "bag_of_words: step_size" in line
    assert "discriminator: step_size" in line
    code, _, err = command(*request, "--max-new-tokens", "2", "--step-size", "0.3")
    line = next(line for line in err.splitlines() if line.startswith("steering:"))
    assert "step_size 0.3 for every attribute" in line


def test_strong_settings_without_steps_sum_the_losses(gpt2, bag, head):
    summed = decode(gpt2, PROMPTS, [bag, head], STRONG)
    assert summed.steering.gradient_cosines.isfinite().all()
    assert not same(summed, decode(gpt2, PROMPTS, [bag, head], STRONG.changed(steps=STEPS)))
