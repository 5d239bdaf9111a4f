"""Means over the real positions of each sample."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pplm.pooling import PooledHidden


def states(batch=2, length=5, seed=0):
    return torch.randn(batch, length, 3, generator=torch.Generator().manual_seed(seed))


def test_the_mean_is_over_the_real_positions_of_each_sample():
    hidden = states()
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    mean = PooledHidden.of(hidden, mask).mean
    torch.testing.assert_close(mean, torch.stack([hidden[0, 2:].mean(0), hidden[1].mean(0)]))


def test_whatever_stands_in_padding_has_no_influence_not_even_nan():
    hidden = states()
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    wanted = PooledHidden.of(hidden, mask).mean
    hidden[0, 0], hidden[0, 1] = torch.nan, torch.inf
    assert torch.equal(PooledHidden.of(hidden, mask).mean, wanted)


@given(st.integers(1, 4))
def test_pooling_in_two_parts_is_pooling_at_once(cut):
    hidden = states()
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    parts = PooledHidden.of(hidden[:, :cut], mask[:, :cut]) + PooledHidden.of(hidden[:, cut:], mask[:, cut:])
    whole = PooledHidden.of(hidden, mask)
    torch.testing.assert_close(parts.mean, whole.mean)
    assert torch.equal(parts.count, whole.count)


def test_adding_leaves_both_parts_as_they_were():
    one = PooledHidden.of(states(), torch.ones(2, 5))
    before = one.total.clone()
    other = one
    other += PooledHidden.of(states(seed=1), torch.ones(2, 5))
    assert torch.equal(one.total, before)
    assert one.count.tolist() == [5, 5]
    assert other.count.tolist() == [10, 10]


def test_half_precision_states_are_summed_in_float32():
    hidden = torch.full((1, 3000, 1), 30.0, dtype=torch.float16)
    assert PooledHidden.of(hidden, torch.ones(1, 3000)).mean.item() == 30.0


def test_the_gradient_reaches_real_positions_alone():
    hidden = states().requires_grad_()
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    (gradient,) = torch.autograd.grad(PooledHidden.of(hidden, mask).mean.sum(), hidden)
    assert gradient[0, :2].eq(0).all()
    torch.testing.assert_close(gradient[0, 2:], torch.full((3, 3), 1 / 3))
