"""The buffer that holds the copies of a key/value cache."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Cache, DynamicCache, GPT2Config, MistralConfig, StaticCache
from transformers.cache_utils import DynamicLayer

from pplm import InputError
from pplm.text.kv_cache import ROOM, KeyValueBuffer
from pplm.text.steerable import check_steerable


def history(length=7, layers=2, batch=2):
    generator = torch.Generator().manual_seed(length)
    return [[torch.randn(batch, 3, length, 4, generator=generator) for _ in range(2)] for _ in range(layers)]


def same(one, other):
    return all(torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True))


def cache_of(history):
    return DynamicCache(ddp_cache_data=[tuple(layer) for layer in history])


def new_positions(count=1, batch=2, layers=2):
    generator = torch.Generator().manual_seed(99)
    return [[torch.randn(batch, 3, count, 4, generator=generator) for _ in range(2)] for _ in range(layers)]


def update(cache, new):
    return [list(cache.update(keys, values, index)) for index, (keys, values) in enumerate(new)]


def cat(*histories):
    return [[torch.cat(parts, dim=2) for parts in zip(*layers, strict=True)] for layers in zip(*histories, strict=True)]


def test_a_buffer_holds_every_copy_of_a_cache_and_leaves_the_cache_alone():
    whole, cache = history(5), cache_of(history(5))
    buffer = KeyValueBuffer.of(cache)
    for rows in (buffer.steered, buffer.unsteered):
        assert same(rows.history(slice(0, 5)), whole)
    update(buffer.cache(0), new_positions(batch=4))
    assert same([[layer.keys, layer.values] for layer in cache.layers], whole)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 3))
def test_reading_over_a_buffer_equals_reading_over_a_copied_history(length, window, count):
    whole, new = history(length), new_positions(count)
    start = max(0, length - window)
    moved = [[t[:, :, start:] + 1 for t in layer] for layer in whole]
    before = [[t[:, :, :start] for t in layer] for layer in whole]
    buffer = KeyValueBuffer.of(cache_of(whole)).steered
    cache = buffer.cache(start, moved)
    assert cache.get_seq_length() == length
    wanted = cat(before, moved, new)
    assert same(update(cache, new), wanted)
    assert cache.get_seq_length() == length + count
    assert same(buffer.history(slice(0, length + count)), wanted)


def test_gradients_reach_the_tail_and_the_new_positions_and_nothing_else():
    buffer = KeyValueBuffer.of(cache_of(history(6))).steered
    tail = [[t.requires_grad_() for t in layer] for layer in history(2)]
    new = [[t.requires_grad_() for t in layer] for layer in new_positions()]
    weights = torch.arange(1.0, 8.0).view(1, 1, 7, 1)
    read = update(buffer.cache(4, tail), new)
    sum((weights * t).sum() for layer in read for t in layer).backward()
    for layer in tail:
        for t in layer:
            assert torch.equal(t.grad, weights[:, :, 4:6].expand_as(t))
    for layer in new:
        for t in layer:
            assert t.grad.eq(7).all()
    assert not any(t.requires_grad for layer in buffer.layers for t in layer)


def test_a_buffer_that_grows_keeps_what_it_holds():
    whole = history(5)
    buffer = KeyValueBuffer.of(cache_of(whole), single=2)
    assert buffer.reserve(5 + ROOM + 1)
    assert buffer.capacity > 5 + ROOM
    assert same(buffer.history(slice(0, 5)), whole)
    capacity = buffer.capacity
    assert not buffer.reserve(capacity)
    assert buffer.capacity == capacity


def test_a_buffer_takes_no_more_room_than_its_limit_until_that_is_passed_after_all():
    buffer = KeyValueBuffer.of(cache_of(history(5)), limit=7)
    assert buffer.capacity == 7
    buffer.reserve(9)
    assert buffer.capacity == 9
    assert same(buffer.unsteered.history(slice(0, 5)), history(5))


def test_selected_samples_are_copies_whose_steered_positions_can_be_put_back():
    whole, new = history(5, batch=3), new_positions(2, batch=4)
    buffer = KeyValueBuffer.of(cache_of(whole))
    index = torch.tensor([2, 0])
    some = buffer.select(index, 5)
    update(some.cache(3), new)
    assert same(buffer.steered.history(slice(0, 5)), whole)
    buffer.put(index, some, slice(3, 5))
    assert same(buffer.unsteered.history(slice(0, 5)), whole)
    found = buffer.steered.history(slice(0, 5))
    for row, new_row in ((2, 0), (0, 1)):
        before = [[t[row : row + 1, :, :3] for t in layer] for layer in whole]
        wanted = cat(before, [[t[new_row : new_row + 1] for t in layer] for layer in new])
        assert same([[t[row : row + 1] for t in layer] for layer in found], wanted)
    assert same([[t[1:2] for t in layer] for layer in found], [[t[1:2] for t in layer] for layer in whole])


def test_plain_dynamic_caches_are_accepted_empty_and_filled():
    check_steerable(DynamicCache())
    check_steerable(DynamicCache(config=GPT2Config(n_layer=2)))
    check_steerable(cache_of(history()))


def test_caches_that_do_not_hold_the_whole_history_are_refused_by_name():
    gpt2 = GPT2Config(n_layer=1, n_embd=8, n_head=2)
    sliding = MistralConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, sliding_window=4)
    cases = [
        (StaticCache(config=gpt2, max_cache_len=8), "Static"),
        (DynamicCache(config=sliding), "DynamicSlidingWindowLayer"),
        (DynamicCache(config=gpt2, offloading=True), "offloaded"),
        (None, "NoneType"),
        (((torch.ones(1), torch.ones(1)),), "tuple"),
    ]
    for cache, name in cases:
        with pytest.raises(InputError, match=name):
            check_steerable(cache)


def test_a_layer_that_subclasses_the_plain_one_is_refused():
    class QuantisedLayer(DynamicLayer):
        pass

    with pytest.raises(InputError, match="QuantisedLayer"):
        check_steerable(Cache(layers=[DynamicLayer(), QuantisedLayer()]))
