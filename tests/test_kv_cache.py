import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Cache, DynamicCache, GPT2Config, MistralConfig, StaticCache
from transformers.cache_utils import DynamicLayer

from pplm import InputError
from pplm.kv_cache import (
    cache_of,
    check_steerable,
    drop_last,
    history_length,
    history_of,
    join_window,
    split_window,
    window_weights,
)


def history(length=7, layers=2, batch=2):
    generator = torch.Generator().manual_seed(length)
    return [[torch.randn(batch, 3, length, 4, generator=generator) for _ in range(2)] for _ in range(layers)]


def same(one, other):
    return all(torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True))


@given(st.integers(1, 9), st.integers(0, 12))
def test_joining_undoes_splitting(length, window_length):
    whole = history(length)
    older, window = split_window(whole, window_length)
    assert same(join_window(older, window), whole)
    assert history_length(older) + history_length(window) == length


@given(st.integers(1, 9), st.integers(1, 12))
def test_the_window_holds_the_most_recent_positions(length, window_length):
    whole = history(length)
    _, window = split_window(whole, window_length)
    wanted = [[t[:, :, -window_length:] for t in layer] for layer in whole]
    assert same(window, wanted)
    assert history_length(window) == min(length, window_length)


def test_a_window_of_zero_is_the_whole_history():
    whole = history(7)
    older, window = split_window(whole, 0)
    assert history_length(older) == 0
    assert same(window, whole)


def test_dropping_the_last_position_keeps_all_others():
    whole = history(7)
    assert history_length(drop_last(whole)) == 6
    assert same(drop_last(whole), [[t[:, :, :6] for t in layer] for layer in whole])
    assert history_length(drop_last(history(1))) == 0


def test_decay_weighs_the_positions_of_a_window_from_one_nth_to_one():
    weights = window_weights(torch.tensor([9]), 4, decay=True)
    assert weights.shape == (1, 1, 4, 1)
    assert weights.flatten().tolist() == [0.25, 0.5, 0.75, 1.0]


def test_decay_spares_the_samples_that_are_not_longer_than_the_window():
    weights = window_weights(torch.tensor([9, 4, 2, 5]), 4, decay=True)
    ramp = [0.25, 0.5, 0.75, 1.0]
    assert weights[:, 0, :, 0].tolist() == [ramp, [1.0] * 4, [1.0] * 4, ramp]


@pytest.mark.parametrize(("window", "decay"), [(4, False), (0, True), (9, True)])
def test_there_are_no_weights_where_all_are_one(window, decay):
    assert window_weights(torch.tensor([9, 3]), window, decay) is None


def test_a_cache_made_of_a_history_shares_its_tensors_and_its_graph():
    whole = history(5)
    whole[0][0].requires_grad_()
    cache = cache_of(whole)
    assert isinstance(cache, DynamicCache)
    assert cache.get_seq_length() == 5
    for layer, (keys, values) in zip(cache.layers, whole, strict=True):
        assert layer.keys is keys
        assert layer.values is values
    keys, _ = cache.update(torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1, 4), 0)
    assert keys.requires_grad


def test_updating_a_cache_leaves_the_history_it_was_made_of_as_it_was():
    whole = history(5)
    copies = [[t.clone() for t in layer] for layer in whole]
    cache = cache_of(whole)
    for index in range(2):
        cache.update(torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1, 4), index)
    assert cache.get_seq_length() == 6
    assert same(whole, copies)


def test_the_history_of_a_cache_is_not_touched_by_its_later_updates():
    cache = cache_of(history(5))
    taken = history_of(cache)
    for index in range(2):
        cache.update(torch.ones(2, 3, 1, 4), torch.ones(2, 3, 1, 4), index)
    assert same(taken, history(5))


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
