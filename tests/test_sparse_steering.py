"""Steering some tokens and some samples only, and how many passes any of it takes."""

from dataclasses import replace

import pytest
import torch
from helpers import STRONG, decode, new_tokens
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

import pplm
from pplm import InputError, SteeringConfig
from pplm.benchmark import in_dtype

PROMPTS = [[5, 9, 33, 71, 12], [8, 64, 2, 3, 4], [29, 30, 31, 32, 33]]


def with_fields(**fields):
    return SteeringConfig(step_size=0.3, num_iterations=3, gamma=1.0, norm_rule="current", **fields)


class Watched:
    """An attribute model that remembers how many samples it was shown."""

    def __init__(self, model):
        self.model, self.rows = model, []

    def loss(self, step):
        self.rows.append(len(step.logits))
        return self.model.loss(step)


@pytest.fixture
def passes(gpt2):
    """Count the forward passes of GPT-2's body, and the rows of each."""
    rows = []
    handle = gpt2.transformer.h[0].register_forward_hook(lambda *seen: rows.append(len(seen[2])))
    yield rows
    handle.remove()


def unchanged(one, other):
    return torch.equal(one.sequences, other.sequences) and all(
        torch.equal(a, b) for a, b in zip(one.logits, other.logits, strict=True)
    )


# --- which tokens and samples -----------------------------------------------------------------------------------


def test_the_defaults_steer_every_token_of_every_sample(gpt2, bag, head):
    sparse = with_fields(steer_every=1, skip_below=0.0)
    assert unchanged(decode(gpt2, PROMPTS, [bag, head], sparse), decode(gpt2, PROMPTS, [bag, head], STRONG))


def test_only_every_kth_token_is_steered_and_the_moved_history_stays(gpt2, bag):
    output = decode(gpt2, PROMPTS, [bag], with_fields(steer_every=2), new=5)
    assert output.steering.kl[[0, 2, 4]].isfinite().all()
    assert output.steering.kl[[1, 3]].isnan().all()
    # The second token is not steered, but its history was moved at the first: its logits are not the model's own.
    unsteered = gpt2(output.sequences[:, :6]).logits[:, -1]
    assert (output.logits[1] - unsteered).abs().amax(1).gt(1e-3).all()


def test_steering_only_the_first_token_equals_a_grad_length_of_one(gpt2, bag):
    rare, short = with_fields(steer_every=100), with_fields(grad_length=1)
    assert unchanged(decode(gpt2, PROMPTS, [bag], rare), decode(gpt2, PROMPTS, [bag], short))


@pytest.mark.parametrize("names", ["bag", "head", "bag head"])
def test_a_threshold_above_every_loss_gives_the_unsteered_text(model, bag, head, names):
    attributes = [{"bag": bag, "head": head}[name] for name in names.split()]
    output = decode(model, PROMPTS, attributes, with_fields(skip_below=1e6))
    plain = decode(model, PROMPTS)
    assert torch.equal(output.sequences, plain.sequences)
    for one, other in zip(output.logits, plain.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert output.steering.kl.isnan().all()


def test_a_threshold_below_every_loss_skips_nobody(model, bag):
    output, dense = (decode(model, PROMPTS, [bag], with_fields(skip_below=value)) for value in (1e-9, 0.0))
    assert torch.equal(output.sequences, dense.sequences)
    for one, other in zip(output.logits, dense.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_sample_is_skipped_where_its_loss_is_below_the_threshold_and_nowhere_else(gpt2, bag):
    dense = decode(gpt2, PROMPTS, [bag], STRONG, new=1)
    first_losses = dense.steering.attribute_loss[0, 0]
    threshold = float(first_losses.sort().values[:2].mean())  # between the two lowest of three
    output = decode(gpt2, PROMPTS, [bag], with_fields(skip_below=threshold), new=1)
    skipped = output.steering.kl[0, 0].isnan()
    assert torch.equal(skipped, first_losses < threshold)
    assert skipped.sum() == 1
    plain = decode(gpt2, PROMPTS, new=1)
    torch.testing.assert_close(output.logits[0][skipped], plain.logits[0][skipped], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.logits[0][~skipped], dense.logits[0][~skipped], atol=1e-4, rtol=1e-4)


def test_a_token_with_a_weak_gradient_is_left_alone_and_no_other(gpt2, bag):
    # Everything about a token but the last step stays the same, so the gradients of a run without steps tell.
    still = with_fields(grad_length=1)
    dense = decode(gpt2, PROMPTS, [bag], with_fields(), new=2)
    strength = dense.steering.gradient_norms[:, 0].square().sum(1).sqrt()  # (N, B), of each first iteration
    ratios = strength[1] / strength.amax(0)
    share = float(ratios.sort().values[:2].mean())
    assert ratios.min() < share < 1
    output = decode(gpt2, PROMPTS, [bag], with_fields(skip_weak=share), new=2)
    assert output.steering.kl[0].isfinite().all()  # nothing came before the first token
    skipped = output.steering.kl[1, 0].isnan()
    assert torch.equal(skipped, ratios < share)
    assert skipped.any()
    alone = decode(gpt2, PROMPTS, [bag], still, new=2)  # the first token steered, the second not
    torch.testing.assert_close(output.logits[1][skipped], alone.logits[1][skipped], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.logits[1][~skipped], dense.logits[1][~skipped], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("names", ["bag", "bag head"])
def test_a_share_that_every_gradient_exceeds_skips_nobody(model, bag, head, names):
    attributes = [{"bag": bag, "head": head}[name] for name in names.split()]
    output, dense = (decode(model, PROMPTS, attributes, with_fields(skip_weak=value)) for value in (1e-9, 0.0))
    assert torch.equal(output.sequences, dense.sequences)
    for one, other in zip(output.logits, dense.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_weak_and_strong_attributes_are_skipped_together(gpt2, bag):
    output = decode(gpt2, PROMPTS, [bag], with_fields(skip_weak=1e-9, skip_below=1e6))
    assert torch.equal(output.sequences, decode(gpt2, PROMPTS).sequences)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steer_every", 0), ("skip_below", -0.1), ("steer_every", 1.5), ("skip_weak", 1.1), ("skip_weak", -0.1)],
)
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=field):
        SteeringConfig(**{field: value})


# --- what it costs ----------------------------------------------------------------------------------------------


def test_a_steered_token_takes_one_forward_pass_an_iteration_and_one_last(gpt2, bag, passes):
    decode(gpt2, PROMPTS[:1], [bag], with_fields(), new=4)
    # The prompt; the first token, whose unsteered reading is the prompt's; then three whose ride in the first pass.
    assert passes == [1, *[1, 1, 1, 1], *(3 * [2, 1, 1, 1])]


def test_a_token_that_is_not_steered_takes_one_pass(gpt2, bag, passes):
    decode(gpt2, PROMPTS[:1], [bag], with_fields(steer_every=3), new=4)
    assert passes == [1, *[1, 1, 1, 1], 2, 2, *[2, 1, 1, 1]]


def test_a_sample_with_a_weak_gradient_takes_one_pass(gpt2, bag, passes):
    dense = decode(gpt2, PROMPTS[:1], [bag], with_fields(), new=2).steering.gradient_norms[:, 0, :, 0]
    assert dense[1].norm() < dense[0].norm()
    passes.clear()
    decode(gpt2, PROMPTS[:1], [bag], with_fields(skip_weak=1.0), new=2)
    assert passes == [1, *[1, 1, 1, 1, 1], 2]


def test_the_prompt_asks_for_the_logits_of_its_last_position_in_a_tensor_of_their_own(gpt2, bag):
    shapes = []
    handle = gpt2.lm_head.register_forward_hook(
        lambda _, inputs, __: shapes.append((tuple(inputs[0].shape), inputs[0].is_contiguous()))
    )
    decode(gpt2, PROMPTS, [bag], with_fields(), new=1)
    handle.remove()
    assert shapes[0] == ((3, 1, gpt2.config.n_embd), True)


def test_plain_decoding_takes_one_pass_a_token_over_one_history(gpt2, passes):
    decode(gpt2, PROMPTS, new=4)
    assert passes == [3, 3, 3, 3]


def test_skipped_and_finished_samples_leave_the_iterations(gpt2, bag):
    watched = Watched(bag)
    free = decode(gpt2, PROMPTS, [bag], STRONG, new=6)
    end = new_tokens(free)[0][1]
    assert all(end not in row for row in new_tokens(free)[1:])
    output = decode(gpt2, PROMPTS, [watched], STRONG, new=6, eos_token_id=end)
    assert output.lengths.tolist() == [2, 6, 6]
    assert watched.rows == 2 * [3, 3, 3, 3] + 4 * [2, 2, 2, 2]  # after the last iteration too
    assert output.steering.kl[2:, :, 0].isnan().all()
    assert output.steering.kl[:2, :, 0].isfinite().all()


@pytest.mark.parametrize("fields", [{}, {"norm_rule": "running_max", "gamma": 1.5, "step_size": 0.1}, {"layers": 1}])
def test_a_finished_sample_s_neighbours_are_steered_as_before(gpt2, bag, head, fields):
    steering = replace(STRONG, **fields)
    free = decode(gpt2, PROMPTS, [bag, head], steering, new=6)
    end = new_tokens(free)[0][1]
    output = decode(gpt2, PROMPTS, [bag, head], steering, new=6, eos_token_id=end)
    assert output.lengths[0] == 2
    for row in range(1, 3):
        length = int(output.lengths[row])
        assert new_tokens(output)[row][:length] == new_tokens(free)[row][:length]
        for step in range(length):
            torch.testing.assert_close(output.logits[step][row], free.logits[step][row], atol=1e-4, rtol=1e-4)


def test_a_finished_sample_s_neighbours_keep_what_was_moved_of_them_in_half_precision(gpt2, bag):
    model = in_dtype(gpt2, "bfloat16")
    free = decode(model, PROMPTS, [bag], STRONG, new=6)
    output = decode(model, PROMPTS, [bag], STRONG, new=6, eos_token_id=new_tokens(free)[0][1])
    assert output.lengths.tolist() == [2, 6, 6]
    for row in (1, 2):
        assert new_tokens(output)[row] == new_tokens(free)[row]
        one, other = (run.steering.attribute_loss[..., row] for run in (output, free))
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("layers", [0, 1])
def test_the_returned_cache_covers_the_finished_samples_too(gpt2, bag, layers):
    steering = replace(STRONG, layers=layers)
    free = decode(gpt2, PROMPTS, [bag], steering, new=6)
    output = decode(gpt2, PROMPTS, [bag], steering, new=6, eos_token_id=new_tokens(free)[0][1])
    assert output.lengths.tolist() == [2, 6, 6]
    wanted = gpt2(output.sequences[:, :-1]).past_key_values
    for found, real in zip(output.past_key_values.layers, wanted.layers, strict=True):
        for own, other in ((found.keys, real.keys), (found.values, real.values)):
            torch.testing.assert_close(own[1:], other[1:], atol=1e-4, rtol=1e-4)
            read = len(PROMPTS[0]) + 1  # the token that ended the first sample was not read
            torch.testing.assert_close(own[0, :, :read], other[0, :, :read], atol=1e-4, rtol=1e-4)
            assert not own[0, :, read:].any()


@pytest.mark.parametrize("layers", [0, 1])
def test_no_token_takes_another_pass_once_a_sample_has_finished(gpt2, bag, passes, layers):
    steering = replace(STRONG, layers=layers)
    end = new_tokens(decode(gpt2, PROMPTS, [bag], steering, new=6))[0][1]
    without_end = list(passes)
    passes.clear()
    assert decode(gpt2, PROMPTS, [bag], steering, new=6, eos_token_id=end).lengths.tolist() == [2, 6, 6]
    assert len(passes) == len(without_end)
    assert passes[-4:] == [rows * 2 // 3 for rows in without_end[-4:]]


class BreaksLater:
    """An attribute model whose loss of one prompt's text is no number once the text is long."""

    def __init__(self, model, first):
        self.model, self.first = model, first

    def loss(self, step):
        breaks = (step.input_ids[:, 0] == self.first) & (step.input_ids.shape[1] > len(PROMPTS[0]) + 2)
        return torch.where(breaks, torch.nan, 1.0) * self.model.loss(step)


def test_what_breaks_after_a_sample_has_finished_is_told_of_the_sample_that_broke(gpt2, bag):
    end = new_tokens(decode(gpt2, PROMPTS, [bag], STRONG, new=6))[0][1]
    breaking = BreaksLater(bag, PROMPTS[2][0])
    with pytest.raises(InputError, match="attribute model 'BreaksLater' returned a loss that is not a number"):
        decode(gpt2, PROMPTS, [breaking], STRONG, new=6, eos_token_id=end)


def test_an_error_while_a_finished_sample_leaves_is_the_one_that_is_raised(gpt2, bag, monkeypatch):
    end = new_tokens(decode(gpt2, PROMPTS, [bag], STRONG, new=6))[0][1]

    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("pplm.text.kv_cache.KeyValueBuffer.keep", full)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        decode(gpt2, PROMPTS, [bag], STRONG, new=6, eos_token_id=end)


def test_a_text_that_outgrows_the_spare_room_again_and_again_stays_the_same(gpt2, bag, monkeypatch):
    wanted = decode(gpt2, PROMPTS, [bag], STRONG, new=12)
    monkeypatch.setattr("pplm.text.kv_cache.ROOM", 1)
    assert unchanged(decode(gpt2, PROMPTS, [bag], STRONG, new=12), wanted)


# --- what is left behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]])
def test_the_caller_s_cache_holds_no_more_memory_than_its_own_tensors(gpt2, bag, as_dict, prompts):
    cache = DynamicCache(config=gpt2.config)
    decode(gpt2, prompts, [bag], STRONG, past_key_values=cache, return_dict_in_generate=as_dict)
    for layer in cache.layers:
        for tensor in (layer.keys, layer.values):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_a_model_in_float64_is_steered(bag):
    torch.manual_seed(0)
    model = pplm.freeze(GPT2LMHeadModel(GPT2Config(vocab_size=90, n_positions=32, n_embd=16, n_layer=2, n_head=2)))
    output = decode(model.double(), PROMPTS, [bag], STRONG)
    assert output.steering.kl.isfinite().all()


def test_token_types_of_a_cached_prompt_count_as_those_of_one_that_is_read_at_once(gpt2, head):
    ids, types = torch.tensor(PROMPTS), torch.tensor([[3, 3, 7, 7, 7]] * 3)
    with torch.no_grad():
        cache = gpt2(
            ids[:, :3], token_type_ids=types[:, :3], past_key_values=DynamicCache(config=gpt2.config)
        ).past_key_values
    wanted = decode(gpt2, PROMPTS, [head], STRONG, token_type_ids=types)
    found = decode(gpt2, PROMPTS, [head], STRONG, token_type_ids=types, past_key_values=cache)
    torch.testing.assert_close(found.steering.attribute_loss, wanted.steering.attribute_loss, atol=1e-4, rtol=1e-4)
