"""The steered loop inside `model.generate`: everything else that transformers offers keeps working."""

import copy
import io
import sys
import time
from itertools import pairwise

import pytest
import torch
from helpers import STRONG, decode, flat, left_pad, new_tokens
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MaxTimeCriteria,
    StaticCache,
    StoppingCriteria,
    TextStreamer,
)
from transformers.generation import BaseStreamer

import pplm
from attribute_models import BagOfWords, Discriminator
from pplm import InputError, SteeringConfig
from pplm.attached import Attached, attach

PROMPT = [5, 9, 33, 71, 12]
PROMPTS = [[5, 9, 33, 71, 12], [8, 64, 2], [17]]
IDENTITIES = {
    "no attributes": ((), STRONG),
    "step size 0": ("bag head", SteeringConfig(step_size=0)),
    "no iterations": ("bag head", SteeringConfig(step_size=0.5, num_iterations=0)),
    "unsteered share alone": ("bag head", SteeringConfig(step_size=0.5, gm_scale=0)),
    "no steered token": ("bag head", SteeringConfig(step_size=0.5, grad_length=0)),
}


def plain(model, prompts, new=6, **arguments):
    ids, mask = left_pad(prompts)
    defaults = {"attention_mask": mask, "max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    defaults["eos_token_id"] = None
    return model.generate(ids, **{**defaults, "return_dict_in_generate": True, **arguments})


def attributes_of(names, bag, head):
    return [{"bag": bag, "head": head}[name] for name in (names.split() if names else ())]


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


def test_a_loss_of_the_wrong_shape_is_refused_with_the_model_s_name(gpt2):
    class Total:
        name = "total"

        def loss(self, step):
            return step.log_probs[:, 3].sum()

    with pytest.raises(InputError, match=r"attribute model 'total'.* shape \(2,\); got \(\)"):
        decode(gpt2, PROMPTS[:2], [Total()])


@pytest.mark.parametrize("kl_scale", [0.0, 0.01])
def test_a_loss_cut_off_from_the_graph_is_refused_with_the_model_s_name(gpt2, bag, kl_scale):
    class Detached:
        name = "detached"

        def loss(self, step):
            return step.log_probs[:, 3].detach()

    for attributes in ([Detached()], [bag, Detached()]):
        with pytest.raises(InputError, match=r"'detached'.*autograd graph"):
            decode(gpt2, [PROMPT], attributes, SteeringConfig(kl_scale=kl_scale))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_negative_or_not_finite_is_refused(bag, weight):
    with pytest.raises(InputError, match="weight of attribute 'bag'"):
        pplm.steered_decoding([(bag, weight)])


def test_something_without_a_loss_is_refused():
    with pytest.raises(InputError, match=r"loss\(step\); got str 'space'"):
        pplm.steered_decoding(["space"])


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


def test_an_overlarge_step_is_reported_with_its_size(gpt2, bag):
    with pytest.raises(InputError, match=r"new token 0 is not a number; lower step_size \(now 1e\+38\)"):
        decode(gpt2, [PROMPT], [bag], SteeringConfig(step_size=1e38, gamma=0.0, num_iterations=3))


# --- logits processors ----------------------------------------------------------------------------------------


def sampled(model, bag, new=12, **arguments):
    return decode(model, [PROMPT] * 6, [bag], do_sample=True, loop={"seed": 1}, new=new, **arguments)


def test_top_k_keeps_the_likeliest_tokens_of_the_steered_distribution(model, bag):
    output = sampled(model, bag, top_k=3)
    for step, (scores, logits) in enumerate(zip(output.scores, output.logits, strict=True)):
        assert (scores.isfinite().sum(1) == 3).all()
        chosen = output.sequences[:, 5 + step, None]
        assert (logits.topk(3).indices == chosen).any(1).all()


def test_top_p_and_min_p_cut_the_steered_distribution(gpt2, bag):
    output = sampled(gpt2, bag, top_k=0, top_p=0.4)
    for scores, logits in zip(output.scores, output.logits, strict=True):
        kept = scores.isfinite()
        mass = (logits.softmax(-1) * kept).sum(1)
        smallest = logits.softmax(-1).masked_fill(~kept, 2.0).amin(1)
        assert (mass >= 0.4 - 1e-5).all()
        assert (mass - smallest < 0.4 + 1e-5).all()
    output = sampled(gpt2, bag, top_k=0, min_p=0.5)
    for scores, logits in zip(output.scores, output.logits, strict=True):
        probabilities = logits.softmax(-1)
        wanted = probabilities >= 0.5 * probabilities.amax(1, keepdim=True)
        assert torch.equal(scores.isfinite(), wanted)


def test_temperature_divides_the_steered_logits(gpt2, bag):
    output = sampled(gpt2, bag, top_k=0, temperature=0.5)
    for scores, logits in zip(output.scores, output.logits, strict=True):
        torch.testing.assert_close(scores, logits / 0.5)


def test_the_repetition_penalty_acts_on_the_steered_text(model, bag):
    output = sampled(model, bag, top_k=0, repetition_penalty=1.7)
    for step, (scores, logits) in enumerate(zip(output.scores, output.logits, strict=True)):
        used = torch.zeros_like(logits).scatter(1, output.sequences[:, : 5 + step], 1.0).bool()
        wanted = torch.where(used, torch.where(logits < 0, logits * 1.7, logits / 1.7), logits)
        torch.testing.assert_close(scores, wanted)


def test_no_pair_is_repeated_under_no_repeat_ngram(gpt2):
    eager = BagOfWords.from_token_ids([11, 23], 90)
    strong = SteeringConfig(step_size=3.0, gamma=1.0, norm_rule="current")
    free = decode(gpt2, [PROMPT], [eager], strong, new=20).sequences[0].tolist()
    bound = decode(gpt2, [PROMPT], [eager], strong, new=20, no_repeat_ngram_size=2).sequences[0].tolist()
    assert len(set(pairwise(free))) < len(free) - 1
    assert len(set(pairwise(bound))) == len(bound) - 1


def test_bad_words_never_appear_however_much_they_are_wanted(gpt2):
    wanted = BagOfWords.from_token_ids([11, 23], 90)
    strong = SteeringConfig(step_size=3.0, gamma=1.0, norm_rule="current")
    free = decode(gpt2, [PROMPT], [wanted], strong, new=12).sequences[0, 5:].tolist()
    bound = decode(gpt2, [PROMPT], [wanted], strong, new=12, bad_words_ids=[[11], [23]]).sequences[0, 5:].tolist()
    assert {11, 23} & set(free)
    assert not {11, 23} & set(bound)


def test_the_generation_config_is_honoured(gpt2, bag):
    config = GenerationConfig(max_new_tokens=4, do_sample=True, top_k=1, pad_token_id=0)
    loop = pplm.steered_decoding([bag], STRONG)
    ids = torch.tensor([PROMPT])
    found = gpt2.generate(ids, generation_config=config, custom_generate=loop)
    assert torch.equal(found, decode(gpt2, [PROMPT], [bag], new=4).sequences)


def test_the_recorded_logits_are_not_changed_by_processors(gpt2, bag):
    free = decode(gpt2, [PROMPT], [bag], new=1)
    bound = decode(gpt2, [PROMPT], [bag], new=1, bad_words_ids=[[11]], repetition_penalty=2.0)
    assert torch.equal(free.logits[0], bound.logits[0])
    assert bound.scores[0][0, 11].isneginf()


# --- ends, padding, copies, outputs ----------------------------------------------------------------------------


def eos_case(model, bag):
    """Return an end token that the first prompt's steered text reaches early, and the texts without it."""
    free = decode(model, PROMPTS, [bag], new=8)
    rows = new_tokens(free, 8)
    for position in (2, 3, 1, 4):
        token = rows[0][position]
        if token not in rows[0][:position]:
            return token, position, rows
    raise AssertionError("this model repeats itself too early for the test")


def test_a_finished_sample_is_filled_with_padding_and_its_length_counts_the_end(model, bag):
    end, position, rows = eos_case(model, bag)
    output = decode(model, PROMPTS, [bag], new=8, eos_token_id=end, pad_token_id=1)
    ended = new_tokens(output, output.sequences.shape[1] - 5)
    for row, (found, free) in enumerate(zip(ended, rows, strict=True)):
        length = free.index(end) + 1 if end in free else 8
        assert output.lengths[row] == min(length, 8)
        assert found[:length] == free[:length][: len(found)]
        assert set(found[length:]) <= {1}
    assert ended[0][position] == end


def test_decoding_stops_when_every_sample_has_ended(model, bag):
    end, position, _ = eos_case(model, bag)
    output = decode(model, [PROMPT], [bag], new=8, eos_token_id=end)
    assert output.sequences.shape[1] == 5 + position + 1
    assert output.sequences[0, -1] == end
    assert len(output.scores) == output.steering.kl.shape[0] == position + 1


def test_min_new_tokens_holds_the_end_back(gpt2, bag):
    end, position, _ = eos_case(gpt2, bag)
    output = decode(gpt2, [PROMPT], [bag], new=8, eos_token_id=end, min_new_tokens=position + 2)
    assert output.lengths.item() >= position + 2


def test_num_return_sequences_gives_independent_samples_of_each_prompt(gpt2, bag):
    output = decode(gpt2, PROMPTS[:2], [bag], do_sample=True, num_return_sequences=3, loop={"seed": 2})
    assert output.sequences.shape[0] == 6
    assert output.sequences[:3, :5].tolist() == [PROMPT] * 3
    assert len({tuple(row) for row in new_tokens(output)}) == 6
    ids = [(0, 2), (1, 0)]
    some = decode(gpt2, PROMPTS[:2], [bag], do_sample=True, loop={"seed": 2, "sample_ids": ids})
    assert new_tokens(some) == [new_tokens(output)[2], new_tokens(output)[3]]


def test_a_wrong_number_of_sample_ids_is_refused(gpt2, bag):
    with pytest.raises(InputError, match="sample_ids names 1 samples; the batch has 3 rows"):
        decode(gpt2, PROMPTS, [bag], do_sample=True, loop={"seed": 2, "sample_ids": [(0, 0)]})


def test_outputs_have_the_shapes_that_transformers_users_expect(model, bag):
    output = decode(model, PROMPTS, [bag])
    vocab = model.config.vocab_size
    assert isinstance(output, pplm.SteeredOutput)
    assert len(output.scores) == len(output.logits) == 6
    assert {tuple(t.shape) for t in (*output.scores, *output.logits)} == {(3, vocab)}
    assert {t.dtype for t in output.scores} == {torch.float32}
    assert output.past_key_values.get_seq_length() == output.sequences.shape[1] - 1
    assert output.lengths.tolist() == [6, 6, 6]
    transition = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
    assert transition.shape == (3, 6)


def test_without_the_flags_there_is_no_record_and_without_a_dict_there_are_ids_alone(gpt2, bag):
    output = decode(gpt2, [PROMPT], [bag], output_scores=False, output_logits=False)
    assert output.scores is None
    assert output.logits is None
    ids = decode(gpt2, [PROMPT], [bag], return_dict_in_generate=False)
    assert isinstance(ids, torch.Tensor)
    assert torch.equal(ids, output.sequences)


def test_the_returned_cache_is_the_unsteered_history_of_the_text(model, bag):
    output = decode(model, [PROMPT], [bag])
    wanted = model(output.sequences[:, :-1]).past_key_values
    for found, real in zip(output.past_key_values.layers, wanted.layers, strict=True):
        torch.testing.assert_close(found.keys, real.keys, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.values, real.values, atol=1e-4, rtol=1e-4)


# --- a cache of the caller's own -------------------------------------------------------------------------------


def prefilled(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), past_key_values=DynamicCache(config=model.config)).past_key_values


@pytest.mark.parametrize("names", ["", "bag", "head", "bag head"])
@pytest.mark.parametrize("cached", [1, 4])
def test_a_prompt_that_is_cached_already_gives_the_same_text(model, bag, head, names, cached):
    attributes = attributes_of(names, bag, head)
    wanted = decode(model, [PROMPT], attributes)
    cache = prefilled(model, PROMPT[:cached])
    tensors = flat([[layer.keys, layer.values] for layer in cache.layers])
    copies = [t.clone() for t in tensors]
    found = decode(model, [PROMPT], attributes, past_key_values=cache)
    assert torch.equal(found.sequences, wanted.sequences)
    for one, other in zip(found.scores, wanted.scores, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert found.past_key_values is cache
    assert cache.get_seq_length() == len(PROMPT) + 5
    assert all(torch.equal(one, other) for one, other in zip(tensors, copies, strict=True))


def only_new(model, attributes, cached=3, steering=STRONG, **arguments):
    return model.generate(
        torch.tensor([PROMPT[cached:]]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        past_key_values=prefilled(model, PROMPT[:cached]),
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=0,
        custom_generate=pplm.steered_decoding(attributes, steering),
        **arguments,
    )


def test_new_ids_alone_over_a_cache_give_the_same_text_for_a_bag(model, bag):
    for attributes in ([], [bag]):
        wanted = decode(model, [PROMPT], attributes).sequences[:, 3:]
        assert torch.equal(only_new(model, attributes), wanted)


def test_new_ids_alone_over_a_cache_hide_the_mean_that_a_discriminator_needs(model, head):
    with pytest.raises(InputError, match=r"past_key_values.*mean hidden state; pass the whole text as input_ids"):
        only_new(model, [head])
    settled = SteeringConfig(step_size=0)
    assert only_new(model, [head], steering=settled).shape == (1, 8)


def test_a_single_new_id_over_a_cache_is_steered_from_the_first_new_token(model, bag):
    found = only_new(model, [bag], cached=4)
    assert torch.equal(found, decode(model, [PROMPT], [bag]).sequences[:, 4:])


def test_a_text_can_be_continued_over_the_returned_cache(gpt2, bag):
    first = decode(gpt2, [PROMPT], [], new=3)
    again = decode(gpt2, first.sequences.tolist(), [bag], new=3, past_key_values=first.past_key_values)
    fresh = decode(gpt2, first.sequences.tolist(), [bag], new=3)
    assert torch.equal(again.sequences, fresh.sequences)


def test_new_ids_over_a_cache_that_do_not_fit_the_positions_are_refused(gpt2, bag):
    cached = [number % 60 for number in range(58)]
    with pytest.raises(InputError, match="positions, the model has 64"):
        gpt2.generate(
            torch.tensor([[3, 4]]),
            attention_mask=torch.ones(1, 60, dtype=torch.long),
            past_key_values=prefilled(gpt2, cached),
            max_new_tokens=10,
            do_sample=False,
            pad_token_id=0,
            custom_generate=pplm.steered_decoding([bag], STRONG),
        )


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


# --- streaming and stopping ------------------------------------------------------------------------------------


class Puts(BaseStreamer):
    def __init__(self):
        self.values, self.ended = [], 0

    def put(self, value):
        self.values.append(value.tolist())

    def end(self):
        self.ended += 1


def test_a_streamer_gets_the_prompt_every_token_and_one_end(gpt2, bag):
    streamer = Puts()
    output = decode(gpt2, [PROMPT], [bag], loop={"streamer": streamer})
    assert streamer.values[0] == [PROMPT]
    assert [token for value in streamer.values[1:] for token in value] == new_tokens(output)[0]
    assert streamer.ended == 1


def test_a_text_streamer_prints_the_text_that_is_returned(gpt2, bag, tokenizer, capsys):
    ids = tokenizer(" moon and sea").input_ids
    streamer = TextStreamer(tokenizer, skip_prompt=True)
    output = decode(gpt2, [ids], [bag], new=10, loop={"streamer": streamer})
    assert capsys.readouterr().out.rstrip("\n") == tokenizer.decode(output.sequences[0, len(ids) :]).rstrip("\n")


class StopAfter(StoppingCriteria):
    def __init__(self, tokens):
        self.tokens, self.calls, self.scores = tokens, 0, []

    def __call__(self, input_ids, scores, **_):
        self.calls += 1
        self.scores.append(scores)
        return torch.full((input_ids.shape[0],), self.calls >= self.tokens)


def test_stopping_criteria_of_the_caller_end_the_text(gpt2, bag):
    stop = StopAfter(3)
    output = decode(gpt2, PROMPTS, [bag], stopping_criteria=[stop])
    assert output.sequences.shape[1] == 5 + 3
    assert [len(scores) for scores in stop.scores] == [1, 2, 3]


@pytest.mark.alone
def test_max_time_ends_the_text(gpt2, bag):
    began = time.time()
    output = decode(gpt2, [PROMPT], [bag], new=50, max_time=1e-9)
    assert output.sequences.shape[1] == 6
    assert time.time() - began < 5
    late = decode(gpt2, [PROMPT], [bag], new=3, stopping_criteria=[MaxTimeCriteria(60.0)])
    assert late.sequences.shape[1] == 8


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_beams": 2}, "beam search"),
        ({"num_beams": 2, "do_sample": True}, "beam sample"),
        ({"prompt_lookup_num_tokens": 2}, "prompt_lookup_num_tokens"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive search"),
        ({"dola_layers": "low"}, "dola generation"),
        ({"use_cache": False}, "use_cache=False"),
        ({"cache_implementation": "static"}, "static"),
        ({"cache_implementation": "offloaded"}, "offloaded"),
        ({"output_attentions": True}, "output_attentions"),
        ({"output_hidden_states": True}, "output_hidden_states"),
        ({"prefill_chunk_size": 2}, "prefill_chunk_size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("steered", [True, False])
@pytest.mark.filterwarnings("ignore:You have set `compile_config`")
def test_modes_that_make_no_sense_are_refused_by_name(gpt2, bag, arguments, name, steered):
    with pytest.raises(InputError, match=name):
        decode(gpt2, [PROMPT], [bag] if steered else [], **arguments)


def test_input_embeddings_are_refused(gpt2, bag):
    with pytest.raises(InputError, match="inputs_embeds cannot be steered"):
        gpt2.generate(
            inputs_embeds=torch.zeros(1, 3, 32),
            max_new_tokens=2,
            do_sample=False,
            pad_token_id=0,
            custom_generate=pplm.steered_decoding([bag]),
        )


def test_a_static_cache_of_the_caller_is_refused(gpt2, bag):
    with pytest.raises(InputError, match="Static"):
        decode(gpt2, [PROMPT], [bag], past_key_values=StaticCache(config=gpt2.config, max_cache_len=32))


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_last_position_is_used_and_one_token_more_is_refused(gpt2, head, horizon):
    steering = SteeringConfig(step_size=0.1, num_iterations=1, horizon_length=horizon)
    room = 64 - len(PROMPT) - horizon + 1
    assert decode(gpt2, [PROMPT], [head], steering, new=room).sequences.shape[1] == 65 - horizon
    with pytest.raises(InputError, match=rf"max_new_tokens={room + 1} .* needs 65 positions, the model has 64"):
        decode(gpt2, [PROMPT], [head], steering, new=room + 1)


def test_nothing_is_written_to_stdout_or_stderr(gpt2, bag, head, monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    decode(gpt2, PROMPTS, [bag, head])
    assert out.getvalue() == err.getvalue() == ""


def test_a_config_of_gpt2_without_cache_in_its_own_settings_is_refused(tokenizer, bag):
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=1, n_head=2, use_cache=False)
    with pytest.raises(InputError, match="use_cache=False"):
        decode(pplm.freeze(GPT2LMHeadModel(config)), [PROMPT], [bag])
