"""Divergence and fusion of two next-token distributions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pplm.text.distributions import Tilt, fuse, kl_from_log_probs

SEEDS = st.integers(0, 10_000)


def kl_divergence(logits, reference_logits):
    """KL(p || r) per row, p and r being the softmax of logits (B, V)."""
    return kl_from_log_probs(logits.log_softmax(-1), reference_logits.log_softmax(-1))


def logits(seed, rows=3, vocab=11, scale=4.0):
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@given(SEEDS, SEEDS)
def test_the_divergence_is_that_of_torch_and_never_negative(one, other):
    p, r = logits(one), logits(other)
    found = kl_divergence(p, r)
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=r)
    )
    torch.testing.assert_close(found, wanted)
    assert (found >= -1e-12).all()


@given(SEEDS)
def test_the_divergence_from_itself_is_zero_even_up_to_a_constant(seed):
    p = logits(seed)
    assert kl_divergence(p, p).eq(0).all()
    torch.testing.assert_close(kl_divergence(p, p + 3), torch.zeros(3, dtype=torch.float64))


def test_the_divergence_grows_with_the_distance_and_is_per_row():
    p, r = logits(1, rows=2), logits(2, rows=2)
    together = kl_divergence(p, r)
    assert together[0] != together[1]
    torch.testing.assert_close(together[1:], kl_divergence(p[1:], r[1:]))
    assert (kl_divergence(p, torch.lerp(p, r, 0.5)) < together).all()


def test_tokens_that_the_first_excludes_count_nothing_and_give_finite_gradients():
    p = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    for reference in (torch.tensor([[0.5, 0.0, -torch.inf]]), torch.tensor([[0.5, 0.0, 2.0]])):
        divergence = kl_divergence(p, reference)
        (gradient,) = torch.autograd.grad(divergence.sum(), p)
        assert divergence.isfinite().all()
        assert gradient.isfinite().all()
    two = kl_divergence(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(kl_divergence(p, torch.tensor([[0.5, 0.0, -torch.inf]])), two)


def test_a_token_that_only_the_reference_excludes_makes_the_divergence_infinite():
    assert kl_divergence(torch.zeros(1, 2), torch.tensor([[0.0, -torch.inf]])).isposinf().all()


@given(SEEDS, SEEDS, st.floats(0, 1))
def test_fusing_is_the_normalised_geometric_mean(one, other, scale):
    u, s = logits(one), logits(other)
    mean = s.softmax(-1) ** scale * u.softmax(-1) ** (1 - scale)
    torch.testing.assert_close(fuse(u, s, scale).softmax(-1), mean / mean.sum(-1, keepdim=True))


@given(SEEDS, SEEDS)
def test_the_divergence_has_the_gradient_that_autograd_finds(one, other):
    p, r, weights = logits(one).requires_grad_(), logits(other), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    plain = (p.softmax(-1) * (p.log_softmax(-1) - r.log_softmax(-1))).sum(-1)
    (wanted,) = torch.autograd.grad((weights * plain).sum(), p)
    (found,) = torch.autograd.grad((weights * kl_divergence(p, r)).sum(), p)
    torch.testing.assert_close(found, wanted)


@given(SEEDS, SEEDS)
def test_fusing_ends_at_the_two_arguments_exactly(one, other):
    u, s = logits(one).float(), logits(other).float()
    assert torch.equal(fuse(u, s, 0), u)
    assert torch.equal(fuse(u, s, 1), s)


@settings(max_examples=50)
@given(SEEDS, st.floats(0, 1))
def test_fusing_equal_logits_gives_them_back_bit_for_bit(seed, scale):
    u = logits(seed).float()
    u[0, 0] = -torch.inf
    assert torch.equal(fuse(u, u.clone(), scale), u)


@pytest.mark.parametrize("scale", [0.3, 0.95])
def test_a_token_that_both_exclude_stays_excluded(scale):
    u, s = logits(1).float(), logits(2).float()
    u[:, 4] = s[:, 4] = -torch.inf
    fused = fuse(u, s, scale)
    assert fused[:, 4].isneginf().all()
    assert not fused.isnan().any()


@pytest.mark.parametrize("excluded", ["steered", "unsteered"])
@pytest.mark.parametrize("scale", [0.3, 0.5, 0.95])
def test_a_token_that_one_of_them_excludes_is_excluded_from_a_true_mean(excluded, scale):
    u, s = logits(1).float(), logits(2).float()
    (u if excluded == "unsteered" else s)[:, 4] = -torch.inf
    fused = fuse(u, s, scale)
    assert fused[:, 4].isneginf().all()
    assert fused[:, :4].isfinite().all()


def test_the_arguments_are_not_changed():
    u, s = logits(1), logits(2)
    before = u.clone(), s.clone()
    fuse(u, s, 0.5)
    kl_divergence(u, s)
    assert torch.equal(u, before[0])
    assert torch.equal(s, before[1])


# --- the weight that a budget allows ----------------------------------------------------------------------------


@given(SEEDS, SEEDS, st.floats(0, 3), st.floats(0.1, 4))
def test_the_largest_affordable_weight_spends_the_budget_and_no_more(one, other, budget, scale):
    p, r = logits(one, vocab=40, scale=scale).float(), logits(other, vocab=40, scale=scale).float()
    found = Tilt(r.log_softmax(-1), p).affordable(torch.full((3,), budget))
    spent = kl_divergence(fuse(r, p, found), r)
    assert ((found >= 0) & (found <= 1)).all()
    assert (spent <= budget * 1.001 + 1e-5).all()
    short = (found < 1) & (spent < 0.97 * budget - 1e-5)
    assert not short.any(), (found, spent)


def test_rows_are_weighed_alone_and_ends_of_the_range_are_exact():
    p, r, budget = logits(1).float(), logits(2).float(), torch.tensor([0.0, 0.2, 1e6])
    found = Tilt(r.log_softmax(-1), p).affordable(budget)
    assert found[[0, 2]].tolist() == [0.0, 1.0]
    assert torch.equal(found[1:2], Tilt(r[1:2].log_softmax(-1), p[1:2]).affordable(budget[1:2]))
    assert Tilt(r.log_softmax(-1), p, 0.3).affordable(budget)[2] == pytest.approx(0.3)
    assert Tilt(r.log_softmax(-1), r + 5).affordable(budget)[1:].tolist() == [
        1.0,
        1.0,
    ]  # the same distribution costs nothing
    fused = fuse(r, p, found)
    assert torch.equal(fused[0], r[0])
    assert torch.equal(fused[2], p[2])


def test_a_mean_leaves_out_what_one_of_the_two_excludes_and_keeps_to_its_budget():
    p, r = logits(1).float(), logits(2).float()
    p[:, 3] = -torch.inf
    r[:, 5] = -torch.inf
    found = Tilt(r.log_softmax(-1), p).affordable(torch.full((3,), 1.0))
    mean = fuse(r, p, found)
    assert mean[:, [3, 5]].isneginf().all()
    assert (kl_divergence(mean, r) <= 1.001).all()
