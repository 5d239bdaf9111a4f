"""Targets: a level of an attribute that a text reaches and does not exceed."""

import re
import warnings

import pytest
import torch
from helpers import PROMPTS, decode, dial

import pplm
from attribute_models import Avoid, BagOfWords, Discriminator
from pplm import InputError, SteeringConfig
from pplm.interface import weigh_attributes
from pplm.presets import ATTRIBUTE_KINDS, DIAL_STEPS, MAX_DIVERGENCE
from pplm.step import Step
from pplm.text.aims import missed_targets
from pplm.text.dial import Dial

pytestmark = pytest.mark.filterwarnings("ignore:target .* is not reached:pplm.SteeringWarning")


# --- target -----------------------------------------------------------------------------------------------------


class Counted:
    """An attribute model that counts the samples that an iteration shows it."""

    def __init__(self, model):
        self.model, self.rows = model, 0

    def loss(self, step):
        if torch.is_grad_enabled() and step.logits.requires_grad:
            self.rows += len(step.logits)
        return self.model.loss(step)


def test_a_bag_s_level_is_the_mean_mass_of_its_words_and_arrives_at_the_target(gpt2, bag):
    output = decode(gpt2, PROMPTS, [bag], dial([bag], target=0.05), new=30)
    tokens = sorted({t for e in bag.entries for t in e.token_ids})
    mass = torch.stack([logits.softmax(-1)[:, tokens].sum(1) for logits in output.logits])
    torch.testing.assert_close(output.steering.levels[-1, 0], mass.mean(0), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(output.steering.levels[-1, 0], torch.full((3,), 0.05), atol=0.0, rtol=0.1)
    assert (mass[0] > 0.06).all()  # what is cheap comes early
    assert (mass < 0.5).all()  # but no more than ten tokens' levels at once


def test_texts_that_are_at_the_level_by_themselves_take_no_iteration(gpt2, bag):
    plain = decode(gpt2, PROMPTS, new=3)
    tokens = sorted({t for e in bag.entries for t in e.token_ids})
    lowest = min(float(logits.softmax(-1)[:, tokens].sum(1).min()) for logits in plain.logits)
    counted = Counted(bag)
    output = decode(gpt2, PROMPTS, [counted], dial([counted], target=0.3 * lowest), new=3)
    assert counted.rows == 0
    assert torch.equal(output.sequences, plain.sequences)
    assert output.steering.kl.isnan().all()
    assert output.steering.final_kl.eq(0).all()
    decode(gpt2, PROMPTS, [counted], dial([counted], target=0.5), new=3)
    assert counted.rows > 0


def test_a_target_is_never_bought_with_more_than_the_budget(gpt2, bag):
    output = decode(gpt2, PROMPTS, [bag], dial([bag], target=0.9, strength=0.2), new=6)
    assert (output.steering.final_kl <= MAX_DIVERGENCE * 0.2**2 * 1.001).all()
    assert (output.steering.levels[-1] < 0.9).all()


def test_more_is_asked_for_and_more_is_reached(gpt2, bag):
    levels = [decode(gpt2, PROMPTS, [bag], dial([bag], target=level), new=10).steering.levels[-1].mean()
              for level in (0.035, 0.045, 0.055)]  # fmt: skip
    assert levels[0] < levels[1] < levels[2]


def test_a_head_s_level_is_the_class_probability_of_the_text_and_stops_the_push(gpt2, head):
    free = decode(gpt2, PROMPTS, [head], dial([head], strength=1.0), new=8)
    held = decode(gpt2, PROMPTS, [head], dial([head], target=0.05), new=8)
    avoided = decode(gpt2, PROMPTS, [Avoid(head)], dial([Avoid(head)], strength=0.5), new=8)
    for output in (held, avoided):
        texts = [output.sequences[:, : 5 + n] for n in range(8)]
        means = [gpt2(text, output_hidden_states=True).hidden_states[-1].mean(1) for text in texts]
        expected = torch.stack([head.class_logits(mean).softmax(-1)[:, head.labels.index("b")] for mean in means])
        torch.testing.assert_close(output.steering.levels[:, 0], expected, atol=1e-4, rtol=1e-3)
    above = held.steering.levels[0, 0] > 0.05
    assert above.any()
    assert held.steering.final_kl[0][above].eq(0).all()
    assert held.steering.final_kl.sum() < free.steering.final_kl.sum()


def test_a_target_of_what_is_avoided_is_an_upper_bound(gpt2, bag):
    tokens = sorted({t for e in bag.entries for t in e.token_ids})
    plain = decode(gpt2, PROMPTS, new=6)
    natural = float(torch.stack([logits.softmax(-1)[:, tokens].sum(1) for logits in plain.logits]).mean())
    avoid = Avoid(bag)
    output = decode(gpt2, PROMPTS, [avoid], dial([avoid], target=0.8 * natural), new=6)
    mass = torch.stack([logits.softmax(-1)[:, tokens].sum(1) for logits in output.logits])
    assert (mass.mean(0) <= 0.8 * natural * 1.05).all()
    torch.testing.assert_close(output.steering.levels[-1, 0], mass.mean(0), atol=1e-4, rtol=1e-2)
    above = plain.logits[0].softmax(-1)[:, tokens].sum(1) > 0.8 * natural
    assert above.any()
    assert (mass[0][above] > 0.8 * natural * 0.97).all()  # no further than that takes
    generous = decode(gpt2, PROMPTS, [avoid], dial([avoid], target=0.9), new=6)
    assert torch.equal(generous.sequences, plain.sequences)


@pytest.mark.parametrize("given", [{}, {"strength": 0.5}])
def test_an_attribute_without_a_target_is_steered_as_strength_has_it_by_default_the_usual_one(gpt2, bag, head, given):
    attributes = [bag, head]
    output = decode(gpt2, PROMPTS, attributes, dial(attributes, target={"bag": 0.001}, **given))
    budget = dial(attributes, strength=0.5).budget
    assert 0.9 * budget < output.steering.final_kl.max() <= 1.001 * budget
    assert output.steering.levels.isfinite().all()


class Broken:
    """An attribute model whose loss is not a number from one new token on."""

    name = "broken"

    def __init__(self, start):
        self.start, self.calls = start, 0

    def loss(self, step):
        late = step.input_ids.shape[1] >= self.start
        return step.log_probs[:, 0] * (torch.nan if late else -1.0)


@pytest.mark.parametrize("start", [0, 8])
@pytest.mark.parametrize("fields", [{"strength": 0.5}, {"target": 0.05}])
def test_a_loss_that_is_not_a_number_is_refused_not_weighed_with_0(gpt2, start, fields):
    with pytest.raises(InputError, match="attribute model 'broken' returned a loss that is not a number"):
        decode(gpt2, PROMPTS, [Broken(start)], dial([Broken(start)], **fields), new=6)


@pytest.mark.parametrize(
    "fields", [{"target": {"bag": 0.04}}, {"target": {"bag": 0.04, "head": 0.9}}, {"strength": 0.5}]
)
def test_an_attribute_of_weight_0_is_as_good_as_none(gpt2, bag, head, fields):
    alone = {name: level if name == "strength" else {"bag": 0.04} for name, level in fields.items()}
    one = decode(gpt2, PROMPTS, [bag], dial([bag], **alone), new=8)
    both = decode(gpt2, PROMPTS, [bag, (head, 0.0)], dial([bag, head], **fields), new=8)
    assert torch.equal(one.sequences, both.sequences)
    torch.testing.assert_close(one.steering.final_kl, both.steering.final_kl, atol=1e-5, rtol=1e-3)


def test_tokens_at_which_nothing_is_moved_do_not_lengthen_the_next_step(gpt2, bag, monkeypatch):
    rarely = dial([bag], strength=0.5, steer_every=5)
    pushes = []

    class Watched(Dial):
        def fuse(self, *arguments):
            pushes.append(self.push.clone())
            return super().fuse(*arguments)

    monkeypatch.setattr("pplm.text.dial.Dial", Watched)
    decode(gpt2, PROMPTS, [bag], rarely, new=6)
    assert all(torch.equal(push, pushes[1]) for push in pushes[2:6])
    assert not torch.equal(pushes[0], pushes[1])


def test_a_target_needs_a_probability(gpt2, bag):
    class Shifted:
        name = "shifted"

        def loss(self, step):
            return bag.loss(step) - 9

    with pytest.raises(InputError, match="its loss is below 0, so it is not -log of one; steer it by strength"):
        decode(gpt2, PROMPTS, [Shifted()], dial([Shifted()], target=0.05), new=2)


def test_settings_neither_enter_nor_leave_the_dial_by_a_single_field(bag):
    assert dial([bag], strength=None, target=None) == dial([bag])
    with pytest.raises(InputError, match="strength cannot be changed to None here"):
        dial([bag], strength=0.5).changed(strength=None)
    with pytest.raises(InputError, match=r"strength cannot be changed to 0\.5 here"):
        SteeringConfig().changed(strength=0.5)
    assert dial([bag], strength=0.5).changed(strength=0.2, target=0.1).strength == 0.2


@pytest.mark.parametrize("fields", [{"window_length": 1}, {"gamma": 0.0}, {"norm_rule": "current"}])
def test_fields_of_a_step_that_are_given_beside_a_strength_hold(gpt2, bag, fields):
    usual, own = (decode(gpt2, PROMPTS, [bag], SteeringConfig(strength=1.0, **given)) for given in ({}, fields))
    assert not torch.equal(usual.steering.attribute_loss, own.steering.attribute_loss)


@pytest.mark.parametrize("kind", ATTRIBUTE_KINDS)
def test_a_strength_written_out_alone_takes_the_dial_s_usual_steps_and_not_the_paper_s(kind):
    assert SteeringConfig(strength=0.5).step_of(kind) == Step(**DIAL_STEPS[kind])
    assert SteeringConfig(strength=0.5, gamma=0.3).step_of(kind) == Step(**{**DIAL_STEPS[kind], "gamma": 0.3})


def test_levels_and_divergences_come_back_with_each_text_and_a_missed_target_is_announced(gpt2, tokenizer):
    sky = BagOfWords.from_words(["moon", "star"], tokenizer, name="sky")
    request = {"attributes": [sky], "max_new_tokens": 4, "seed": 0, "num_samples": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        texts = pplm.generate(gpt2, tokenizer, "The lake", steering=dial([sky], target=0.02), **request)
    for text in texts:
        assert set(text.levels) == {"sky"}
        assert len(text.final_kl) == len(text.token_ids)
        assert text.record()["levels"] == text.levels
    with pytest.warns(pplm.SteeringWarning, match=r"target 0.9 of 'sky' is not reached: the mean level"):
        pplm.generate(gpt2, tokenizer, "The lake", steering=dial([sky], target=0.9, strength=0.1), **request)
    plain = pplm.generate(gpt2, tokenizer, "The lake", max_new_tokens=3)[0]
    assert plain.levels == {}
    assert plain.final_kl == [0.0] * len(plain.token_ids)


@pytest.mark.parametrize(
    ("avoided", "level", "remedy"),
    [
        (False, 0.074, "ask for less"),
        (False, 0.076, None),
        (False, 0.9, None),
        (True, 0.126, "allow more of it"),
        (True, 0.124, None),
        (True, 0.0, None),
    ],
)
def test_a_target_is_missed_by_more_than_a_quarter_and_on_its_wrong_side_alone(bag, avoided, level, remedy):
    attribute = Avoid(bag) if avoided else bag
    weighted = weigh_attributes([attribute])
    levels = [{weighted[0].name: level}, {}]  # the second text was not measured
    told = missed_targets(weighted, dial([attribute], target=0.1), levels)
    assert len(told) == (remedy is not None)
    assert all(remedy in message for message in told)


def test_targets_are_named_as_the_attributes_are(gpt2, bag, head):
    both = [bag, Avoid(head)]
    for target, words in (
        ({"head": 0.1, "avoid head": 0.2}, "target names an attribute twice: head, avoid head"),
        ({"sea": 0.1}, "target names 'sea'; the attributes are bag, avoid head"),
        (0.1, "target=0.1 could be meant for any of bag, avoid head; name one: bag=0.1"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            decode(gpt2, PROMPTS, both, dial(both, target=target))
    output = decode(gpt2, PROMPTS, both, dial(both, target={"head": 0.4}), new=2)
    assert output.steering.levels[:, 1].isfinite().all()


def test_a_head_towards_no_class_is_refused_as_ever(gpt2, head):
    aimless = Discriminator(head.weight, head.bias, head.labels)
    with pytest.raises(InputError, match="has no wanted class"):
        decode(gpt2, PROMPTS, [aimless], dial([aimless], target=0.5))


def test_the_command_line_takes_a_strength_or_targets(command):
    request = ("generate", "The lake", "--bag", "space", "--greedy", "--max-new-tokens", "3", "--no-unsteered")
    code, _, err = command(*request, "--strength", "0.8")
    assert code == 0
    assert "steering: the dial, strength 0.8" in err
    for target in ("0.001", "space=0.001"):
        code, out, err = command(*request[:-1], "--target", target)  # with an unsteered text beside
        assert code == 0
        assert f"the dial, target {target}" in err
        assert "[unsteered 1]" in out
    for wrong, words in (
        (("--strength", "0.5", "--step-size", "1"), "strength takes the place of step_size"),
        (("--target", "0.1", "--preset", "paper"), "preset paper steers by a step_size"),
        (("--target", "2"), "target must be above 0 and below 1; got 2.0"),
        (("--target", "much"), "--target must be a level, such as 0.05 or space=0.05; got 'much'"),
        (("--target", "0.1", "--target", "space=0.1"), "name each one's attribute"),
        (("--target", "=0.1"), "name each one's attribute"),
        (("--target", "sea=0.1"), "target names 'sea'; the attributes are space"),
        (("--strength", "1.2"), "strength must be finite and between 0 and 1; got 1.2"),
    ):
        code, out, err = command(*request, *wrong)
        assert (code, out) == (2, "")
        assert words in err.splitlines()[-1]
