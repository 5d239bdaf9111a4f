"""Avoidance, and mixtures of attribute models with their cosines."""

import math

import pytest
import torch
from helpers import decode
from hypothesis import given
from hypothesis import strategies as st

import pplm
from attribute_models import Avoid, BagOfWords, Discriminator
from pplm import InputError
from pplm.interface import SteeringStep, WeightedAttribute, weigh_attributes

PROMPTS = [[5, 17, 33, 8], [61, 4, 44]]


def step(logits, hidden=None):
    ids = torch.zeros(logits.shape[0], 1, dtype=torch.long)
    return SteeringStep(ids, ids.bool(), logits, lambda: hidden)


class Fixed:
    """An attribute model whose loss is given."""

    def __init__(self, loss):
        self.value = loss

    def loss(self, step):  # noqa: ARG002
        return self.value


# --- Avoid -----------------------------------------------------------------------------------------------------


@given(st.floats(min_value=1e-5, max_value=200.0))
def test_the_loss_of_avoiding_is_minus_the_log_of_the_rest(own):
    own_loss = torch.tensor([own], dtype=torch.float64, requires_grad=True)
    loss = Avoid(Fixed(own_loss)).loss(None)
    mass = math.exp(-own)
    assert loss.item() == pytest.approx(-math.log(-math.expm1(-own)), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss.sum(), own_loss)
    assert gradient.item() == pytest.approx(-mass / -math.expm1(-own), rel=1e-9)


@given(st.floats(min_value=-30.0, max_value=30.0))
def test_avoiding_a_bag_is_finite_for_every_mass_and_never_pulls_towards_it(height):
    logits = torch.zeros(1, 6)
    logits[0, 2] = height
    logits.requires_grad_()
    loss = Avoid(BagOfWords.from_token_ids([2], 6)).loss(step(logits))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[0, 2] >= 0
    rest = -math.log(5 / (5 + math.exp(height)))
    if height < 10:  # above, float32 cannot tell the mass from 1
        assert loss.item() == pytest.approx(rest, rel=1e-2, abs=1e-12)
        assert gradient[0, 2] > 0


def test_avoiding_what_is_certain_stays_finite_and_what_cannot_act_stays_infinite():
    own = torch.tensor([0.0, 1e-12, 1e4, math.inf], requires_grad=True)
    loss = Avoid(Fixed(own)).loss(None)
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    assert gradient.isfinite().all()
    assert loss[:2].isfinite().all()
    assert loss[:2].min() > 13
    assert loss[2:].tolist() == [0.0, math.inf]


def test_avoiding_a_class_is_wanting_all_others():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 8, generator=generator)
    head = Discriminator.from_weights(torch.randn(3, 8, generator=generator), torch.zeros(3), ["a", "b", "c"], "b")
    others = head.class_logits(hidden).softmax(-1)[:, [0, 2]].sum(-1)
    torch.testing.assert_close(Avoid(head).loss(step(torch.zeros(4, 5), hidden)), -others.log())


def test_avoiding_one_of_two_classes_is_wanting_the_other():
    hidden = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    head = Discriminator.from_weights(torch.eye(2, 8), torch.zeros(2), ["bad", "good"], "bad")
    shown = step(torch.zeros(4, 5), hidden)
    torch.testing.assert_close(Avoid(head).loss(shown), head.towards("good").loss(shown))


def test_what_is_avoided_gives_its_name_and_a_head_its_kind(bag, head):
    assert (Avoid(bag).name, Avoid(bag).steering_kind) == ("avoid bag", "avoidance")
    assert (Avoid(head).name, Avoid(head).steering_kind) == ("avoid head", "discriminator")
    assert (Avoid(Fixed(None)).name, Avoid(Fixed(None)).steering_kind) == ("avoid Fixed", "avoidance")


def test_the_avoided_attribute_is_adapted_to_the_model(gpt2, tokenizer):
    words = BagOfWords.from_words(["zebra"], tokenizer)
    assert Avoid(words).for_model(gpt2).attribute.completions == words.for_model(gpt2, avoided=True).completions
    assert words.completions is None
    plain = Avoid(Fixed(None))
    assert plain.for_model(gpt2) is plain


def test_avoiding_lowers_the_mass_and_wanting_raises_it(gpt2):
    tokens = [11, 23, 42, 61, 77]
    bag = BagOfWords.from_token_ids(tokens, gpt2.config.vocab_size)

    def masses(attributes):
        output = decode(gpt2, PROMPTS, attributes, new=1)
        return output.scores[0].softmax(-1)[:, tokens].sum(-1)

    plain = masses([])
    assert (masses([Avoid(bag)]) < 0.8 * plain).all()
    assert (masses([bag]) > 1.25 * plain).all()


# --- mixtures --------------------------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_of_what_is_reported_unweighted(gpt2, bag, head):
    attributes = [(bag, 2.0), (head, 0.25), bag]
    trace = decode(gpt2, PROMPTS, attributes, new=2).steering
    assert trace.names == ("bag", "head", "bag#2")
    weights = torch.tensor([2.0, 0.25, 1.0])[:, None]
    torch.testing.assert_close(trace.attribute_loss, (weights * trace.attribute_losses).sum(2))
    torch.testing.assert_close(trace.attribute_losses[:, :, 0], trace.attribute_losses[:, :, 2])
    alone = decode(gpt2, PROMPTS, [head], new=1).steering
    torch.testing.assert_close(trace.attribute_losses[0, 0, 1], alone.attribute_losses[0, 0, 0])


def test_a_weight_of_0_leaves_an_attribute_in_the_report_and_out_of_the_text(gpt2, bag, head):
    both = decode(gpt2, PROMPTS, [bag, (head, 0.0)], new=2)
    alone = decode(gpt2, PROMPTS, [bag], new=2)
    torch.testing.assert_close(both.scores, alone.scores)
    assert both.steering.attribute_losses[:, :, 1].gt(0).all()


def test_losses_are_reported_by_distinct_names_and_unweighted(gpt2, tokenizer):
    moon = BagOfWords.from_words(["moon"], tokenizer, name="moon")
    mixed, alone = (
        pplm.generate(gpt2, tokenizer, "the", attributes=attributes, max_new_tokens=1, do_sample=False)[0]
        for attributes in ([(moon, 3.0), (moon, 0.5)], [moon])
    )
    assert set(mixed.attribute_losses) == {"moon", "moon#2"}
    first = alone.attribute_losses["moon"][0][0]
    assert [losses[0][0] for losses in mixed.attribute_losses.values()] == pytest.approx([first, first])
    assert mixed.attribute_loss[0][0] == pytest.approx(3.5 * first)


def test_equal_names_are_numbered(bag):
    assert [a.name for a in weigh_attributes([bag, bag, (bag, 2.0)])] == ["bag", "bag#2", "bag#3"]


@pytest.mark.parametrize(
    ("attributes", "needle"),
    [
        ([BagOfWords], r"objects that have a method loss\(step\); got the class <class .*BagOfWords'>"),
        (BagOfWords, r"got the class <class .*BagOfWords'>"),
        ([(BagOfWords, 2.0)], r"got the class <class .*BagOfWords'>"),
        (["space"], "got str 'space'"),
        ([()], r"got tuple \(\)"),
    ],
)
def test_what_is_no_attribute_model_is_refused(gpt2, tokenizer, attributes, needle):
    with pytest.raises(InputError, match=needle):
        pplm.generate(gpt2, tokenizer, "the", attributes=attributes, max_new_tokens=1)


@pytest.mark.parametrize("weight", ["2", None, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_number_of_at_least_0_is_refused(bag, weight):
    with pytest.raises(
        InputError, match=f"weight of attribute 'bag' must be a finite number of at least 0; got {weight!r}"
    ):
        weigh_attributes([(bag, weight)])


@pytest.mark.parametrize("weight", [1e39, 10**400])
def test_a_weight_that_float32_does_not_hold_is_refused_by_name(bag, weight):
    with pytest.raises(InputError, match=r"the weight of attribute 'bag' must be at most 3.4e\+38, the largest"):
        weigh_attributes([(bag, weight)])


def test_a_request_adapts_each_attribute_model_once(gpt2, tokenizer, bag):
    adapted = []

    class Counted:
        def for_model(self, model):
            adapted.append(model)
            return self

        def loss(self, step):
            return bag.loss(step)

    request = {"max_new_tokens": 1, "max_batch_size": 1, "do_sample": False}
    pplm.generate(gpt2, tokenizer, ["the", "a", "b"], attributes=[(Counted(), 2.0)], **request)
    assert adapted == [gpt2]


def test_cosines_are_1_with_itself_symmetric_and_between_minus_1_and_1(gpt2, bag, head):
    trace = decode(gpt2, PROMPTS, [bag, (bag, 5.0), head, Avoid(bag)], new=3).steering
    cosines = trace.gradient_cosines
    assert cosines.shape == (3, 4, 4, 2)
    torch.testing.assert_close(cosines.diagonal(dim1=1, dim2=2), torch.ones(3, 2, 4))
    torch.testing.assert_close(cosines, cosines.transpose(1, 2))
    torch.testing.assert_close(cosines[:, 0, 1], torch.ones(3, 2))
    assert cosines.abs().max() <= 1 + 1e-6  # of rounding
    assert cosines[:, 0, 2].abs().max() < 0.9
    torch.testing.assert_close(cosines[:, 0, 3], -torch.ones(3, 2))


def test_cosines_are_those_of_the_gradients_by_sample(gpt2, bag, head):
    """The sample's own gradients, taken apart from each other in a batch of one."""
    both = decode(gpt2, PROMPTS, [bag, head], new=1).steering.gradient_cosines[0]
    for row, prompt in enumerate(PROMPTS):
        alone = decode(gpt2, [prompt], [bag, head], new=1).steering.gradient_cosines[0]
        torch.testing.assert_close(both[..., row], alone[..., 0], rtol=1e-4, atol=1e-4)
    assert (both[0, 1, 0] - both[0, 1, 1]).abs() > 1e-3


def test_a_single_attribute_has_no_cosine(gpt2, bag):
    assert decode(gpt2, PROMPTS, [bag], new=1).steering.gradient_cosines.isnan().all()


def test_a_mixture_of_weighted_attributes_keeps_each_ones_own_loss(bag):
    shown = step(torch.randn(2, 90, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(WeightedAttribute("bag", bag, 7.0).loss(shown), bag.loss(shown))
