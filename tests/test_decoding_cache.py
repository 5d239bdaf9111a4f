"""Steering over a cache that the caller passes to `model.generate`."""

import pytest
import torch
from helpers import STRONG, UNEVEN, decode, flat, left_pad
from plain_decoding import PROMPT, attributes_of
from transformers import DynamicCache

import pplm
from pplm import InputError, SteeringConfig


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


@pytest.mark.parametrize("names", ["bag", "head"])
def test_padded_prompts_that_are_cached_already_give_the_same_texts(model, bag, head, names):
    attributes = attributes_of(names, bag, head)
    ids, mask = left_pad(UNEVEN)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    cached = {"attention_mask": mask[:, :4], "position_ids": places[:, :4]}
    with torch.no_grad():
        cache = model(ids[:, :4], past_key_values=DynamicCache(config=model.config), **cached).past_key_values
    wanted = decode(model, UNEVEN, attributes)
    found = decode(model, UNEVEN, attributes, past_key_values=cache)
    assert torch.equal(found.sequences, wanted.sequences)
    losses = (output.steering.attribute_losses for output in (found, wanted))
    torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-4, equal_nan=True)


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
