"""The normalised gradient steps, without any language model."""

import pytest
import torch
from helpers import flat
from hypothesis import given, settings
from hypothesis import strategies as st

from pplm import InputError, SteeringConfig, steer
from pplm.step import Step


def config(**fields):
    return SteeringConfig(**{"step_size": 0.1, "num_iterations": 1, "gamma": 0.0, "kl_scale": 0.0, **fields})


def quadratic(state):
    """Half the squared length of a sample: the gradient of every tensor is the tensor itself."""
    loss = sum((t.float() ** 2).flatten(1).sum(1) for group in state for t in group) / 2
    return loss, torch.zeros_like(loss)


def random_state(batch=3, groups=2, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = [[(batch, 2, 3), (batch, 4)], [(batch, 5), (batch, 1, 2)]][:groups]
    return [[torch.randn(shape, generator=generator).to(dtype) for shape in group] for group in shapes]


def group_norms(state):
    return torch.stack([torch.cat([t.flatten(1) for t in group], 1).norm(dim=1) for group in state])


def test_with_gamma_0_a_step_is_the_raw_gradient():
    state = [[torch.tensor([[3.0, 4.0], [1.0, -2.0]])]]
    result = steer(state, quadratic, config())
    torch.testing.assert_close(result.state[0][0], state[0][0] * 0.9)
    assert result.attribute_loss.tolist() == [[12.5, 2.5]]
    torch.testing.assert_close(result.gradient_norms, torch.tensor([[[5.0, 5.0**0.5]]]))


@pytest.mark.parametrize("rule", ["current", "running_max"])
def test_with_gamma_1_the_first_step_of_every_group_and_sample_is_as_long_as_the_step_size(rule):
    state = random_state()
    result = steer(state, quadratic, config(gamma=1.0, norm_rule=rule))
    moved = group_norms(
        [[new - old for new, old in zip(*pair, strict=True)] for pair in zip(result.state, state, strict=True)]
    )
    torch.testing.assert_close(moved, torch.full((2, 3), 0.1))


def test_a_group_is_normalised_together():
    keys, values = torch.tensor([[3.0]]), torch.tensor([[4.0]])
    together = steer([[keys, values]], quadratic, config(gamma=1.0)).state
    assert together[0][0].item() == pytest.approx(3 - 0.1 * 3 / 5)
    assert together[0][1].item() == pytest.approx(4 - 0.1 * 4 / 5)
    apart = steer([[keys], [values]], quadratic, config(gamma=1.0)).state
    assert [group[0].item() for group in apart] == pytest.approx([2.9, 3.9])


def test_with_gamma_one_and_a_half_a_step_shrinks_with_the_root_of_the_norm():
    result = steer([[torch.tensor([[3.0, 4.0]])]], quadratic, config(gamma=1.5))
    torch.testing.assert_close(result.state[0][0], torch.tensor([[3.0, 4.0]]) * (1 - 0.1 / 5**1.5))


@pytest.mark.parametrize(("rule", "divisors"), [("current", [2.0, 3.0]), ("running_max", [4.0, 4.0])])
def test_the_norm_rule_decides_between_the_own_and_the_largest_norm_so_far(rule, divisors):
    state = [[torch.tensor([[2.0], [3.0]])]]
    earlier = torch.tensor([[4.0, 4.0]])
    result = steer(state, quadratic, config(gamma=1.0, norm_rule=rule), earlier)
    expected = [x - 0.1 * x / d for x, d in zip([2.0, 3.0], divisors, strict=True)]
    torch.testing.assert_close(result.state[0][0].flatten(), torch.tensor(expected))
    assert result.norms.tolist() == [[4.0, 4.0]]


def test_the_running_maximum_grows_within_the_iterations_of_one_token():
    def steeper(state):  # the gradient grows as the state falls
        loss = (-(state[0][0] ** 2) / 2).sum(1)
        return loss, torch.zeros_like(loss)

    result = steer([[torch.tensor([[1.0]])]], steeper, config(gamma=1.0, num_iterations=2, norm_rule="running_max"))
    assert result.gradient_norms.flatten().tolist() == pytest.approx([1.0, 1.1])
    assert result.norms.item() == pytest.approx(1.1)
    assert result.state[0][0].item() == pytest.approx(1.2)


def test_norms_carried_from_token_to_token_keep_the_largest():
    first = steer([[torch.tensor([[10.0]])]], quadratic, config(gamma=1.0, norm_rule="running_max"))
    second = steer([[torch.tensor([[1.0]])]], quadratic, config(gamma=1.0, norm_rule="running_max"), first.norms)
    assert first.norms.item() == second.norms.item() == 10.0
    assert second.state[0][0].item() == pytest.approx(1 - 0.1 / 10)


def test_the_divergence_pulls_with_its_weight_and_is_reported_unscaled():
    def objective(state):
        x = state[0][0][:, 0]
        return x, -3 * x

    state = [[torch.zeros(1, 1)]]
    result = steer(state, objective, config(kl_scale=0.5))
    assert result.state[0][0].item() == pytest.approx(-0.1 * (1 - 1.5))
    two = steer([[torch.ones(1, 1)]], objective, config(kl_scale=0.5))
    assert (two.attribute_loss.item(), two.divergence.item()) == (1.0, -3.0)


def test_losses_are_those_before_each_update():
    result = steer([[torch.tensor([[2.0]])]], quadratic, config(num_iterations=3, step_size=0.5))
    assert result.attribute_loss.flatten().tolist() == [2.0, 0.5, 0.125]
    assert result.state[0][0].item() == 0.25


@pytest.mark.parametrize("fields", [{"step_size": 0}, {"num_iterations": 0}])
def test_without_step_or_iterations_the_state_stays_bit_for_bit(fields):
    state = random_state()
    result = steer(state, quadratic, config(**fields))
    for new, old in zip(flat(result.state), flat(state), strict=True):
        assert torch.equal(new, old)
    assert result.attribute_loss.shape == (0 if "num_iterations" in fields else 1, 3)
    assert result.gradient_norms.shape == (0 if "num_iterations" in fields else 1, 2, 3)


def test_the_given_state_norms_and_weights_are_not_changed():
    state, norms, weights = random_state(), torch.ones(2, 3), torch.ones(1)
    copies = [[t.clone() for t in group] for group in state]
    steer(state, quadratic, config(num_iterations=2), norms, weights=weights)
    for new, old in zip(flat(state), flat(copies), strict=True):
        assert torch.equal(new, old)
        assert new.grad is None
    assert torch.equal(norms, torch.ones(2, 3))


def test_the_result_carries_no_graph():
    result = steer(random_state(), quadratic, config())
    tensors = [*flat(result.state), result.attribute_loss, result.divergence, result.gradient_norms, result.norms]
    assert not any(t.requires_grad for t in tensors)


def test_parameters_of_the_objective_receive_no_gradient():
    weight = torch.nn.Parameter(torch.tensor(2.0))

    def objective(state):
        loss = weight * state[0][0].sum(1)
        return loss, torch.zeros_like(loss)

    steer([[torch.ones(1, 2)]], objective, config())
    assert weight.grad is None


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("rule", ["current", "running_max"])
def test_a_sample_without_gradient_stays_where_it_is(gamma, rule):
    state = [[torch.tensor([[0.0, 0.0], [1.0, 2.0]])]]
    result = steer(state, quadratic, config(gamma=gamma, norm_rule=rule, num_iterations=2))
    assert result.state[0][0][0].tolist() == [0.0, 0.0]
    assert result.state[0][0][1].norm() < 5**0.5


def test_tensors_the_loss_ignores_stay_where_they_are():
    state = random_state()

    def objective(moved):
        loss = (moved[0][0] ** 2).flatten(1).sum(1)
        return loss, torch.zeros_like(loss)

    result = steer(state, objective, config(gamma=1.0))
    assert not torch.equal(result.state[0][0], state[0][0])
    for new, old in [(result.state[0][1], state[0][1]), *zip(result.state[1], state[1], strict=True)]:
        assert torch.equal(new, old)


def test_weights_scale_the_gradient_before_its_norm_is_taken():
    state = [[torch.tensor([[3.0, 4.0]])]]
    weights = torch.tensor([[1.0, 0.0]])
    result = steer(state, quadratic, config(gamma=1.0), weights=weights)
    torch.testing.assert_close(result.state[0][0], torch.tensor([[2.9, 4.0]]))
    assert result.gradient_norms.item() == 3.0


def test_a_broken_sample_does_not_reach_its_neighbours():
    state = [[torch.tensor([[1.0], [torch.nan], [3.0]])]]
    result = steer(state, quadratic, config(gamma=1.0, num_iterations=2))
    assert result.state[0][0].flatten().isnan().tolist() == [False, True, False]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    batch=st.integers(1, 5),
    gamma=st.sampled_from([0.0, 1.0, 1.5, 2.0]),
    rule=st.sampled_from(["current", "running_max"]),
    iterations=st.integers(1, 3),
)
def test_a_batch_moves_as_its_samples_alone(seed, batch, gamma, rule, iterations):
    settings = config(gamma=gamma, norm_rule=rule, num_iterations=iterations, kl_scale=0.3)

    def objective(state):
        loss, _ = quadratic(state)
        divergence = sum(t.flatten(1).sin().sum(1) for group in state for t in group)
        return loss.sqrt(), divergence

    state = random_state(batch, seed=seed)
    norms = torch.rand(2, batch, generator=torch.Generator().manual_seed(seed)) * 3
    together = steer(state, objective, settings, norms)
    for row in range(batch):
        alone = steer(
            [[t[row : row + 1] for t in group] for group in state], objective, settings, norms[:, row : row + 1]
        )
        for one, all_ in zip(flat(alone.state), flat(together.state), strict=True):
            torch.testing.assert_close(all_[row : row + 1], one)
        torch.testing.assert_close(together.norms[:, row : row + 1], alone.norms)
        torch.testing.assert_close(together.attribute_loss[:, row : row + 1], alone.attribute_loss)
        torch.testing.assert_close(together.divergence[:, row : row + 1], alone.divergence)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_keep_their_type_and_accumulate_small_steps(dtype):
    state = [[torch.full((1, 1), 100.0, dtype=dtype)]]

    def objective(moved):
        loss = moved[0][0].float().sum(1)
        return loss, torch.zeros_like(loss)

    spacing = (torch.nextafter(state[0][0], torch.tensor(torch.inf, dtype=dtype)) - state[0][0]).item()
    result = steer(state, objective, config(step_size=spacing / 4, num_iterations=8))
    assert result.state[0][0].dtype == dtype
    assert result.state[0][0].item() == 100.0 - 2 * spacing
    assert result.norms.dtype == torch.float32


@pytest.mark.parametrize("bad", [torch.sum, lambda loss: loss[:, None], lambda loss: loss[:1]])
def test_a_loss_of_another_shape_is_refused_with_both_shapes(bad):
    def attribute(state):
        return bad(state[0][0].sum(1)), torch.zeros(2)

    def divergence(state):
        return state[0][0].sum(1), bad(torch.zeros(2))

    for objective, name in ((attribute, "attribute loss"), (divergence, "divergence")):
        with pytest.raises(InputError, match=rf"{name} must be one number per sample, shape \(2,\); got \("):
            steer([[torch.ones(2, 3)]], objective, config())


def test_a_loss_cut_off_from_the_state_is_refused():
    with pytest.raises(InputError, match="does not depend on the state"):
        steer([[torch.ones(2, 3)]], lambda _: (torch.ones(2), torch.zeros(2)), config())


def test_steering_works_under_no_grad_and_leaves_the_mode_as_it_was():
    with torch.no_grad():
        result = steer([[torch.ones(1, 1)]], quadratic, config())
        assert not torch.is_grad_enabled()
    assert result.state[0][0].item() == pytest.approx(0.9)


@given(st.floats(0.01, 100), st.floats(0.01, 3), st.integers(1, 3))
def test_the_dial_s_step_lowers_a_linear_loss_by_its_nats_whatever_the_scale_of_the_state(scale, nats, iterations):
    slopes = [torch.randn(2, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in range(2)]

    def linear(state):
        loss = scale * sum((slope * group[0]).sum(1) for slope, group in zip(slopes, state, strict=True))
        return loss[None], torch.zeros_like(loss)

    state = [[torch.zeros(2, 3, dtype=torch.float64)] for _ in slopes]
    step = Step(step_size=nats, gamma=1.0, norm_rule="current", window_length=0)
    settings = SteeringConfig(strength=0.5, num_iterations=iterations, kl_scale=0.0)
    moved = steer(state, linear, settings, steps=[step]).state
    torch.testing.assert_close(linear(moved)[0][0], torch.full((2,), -nats * iterations, dtype=torch.float64))


def test_a_gradient_weaker_than_the_strongest_so_far_earns_a_shorter_step_of_the_dial():
    step = Step(step_size=1.0, gamma=1.0, norm_rule="running_max", window_length=0)
    settings = SteeringConfig(strength=0.5, num_iterations=1, kl_scale=0.0)

    def loss(state):
        own = 2 * state[0][0][:, 0]
        return own[None], torch.zeros_like(own)

    state = [[torch.zeros(1, 1)]]
    first = steer(state, loss, settings, steps=[step])
    assert first.state[0][0].item() == pytest.approx(-0.5)  # 2 nats per unit
    later = steer(state, loss, settings, 4 * first.norms, steps=[step])
    assert later.state[0][0].item() == pytest.approx(-0.5 / 16)


@pytest.mark.parametrize(("norm_rule", "gamma", "shares"), [
    ("running_max", 1.0, (1, 1 / 4, 0)), ("running_max", 1.5, (1, 1 / 4, 0)),
    ("current", 1.0, (1, 1, 0)), ("current", 0.5, (1, 1 / 2, 0)),
])  # fmt: skip
def test_the_reach_of_a_step_is_its_length_beside_one_by_the_longest_gradient_so_far(norm_rule, gamma, shares):
    settings = SteeringConfig(strength=0.5, num_iterations=1, kl_scale=0.0)
    step = Step(step_size=0.7, gamma=gamma, norm_rule=norm_rule, window_length=0)
    state, norms = [[torch.zeros(2, 3)], [torch.zeros(2, 1)]], None
    for slope, share in zip((4.0, 1.0, 0.0), shares, strict=True):

        def loss(state, slope=slope):
            own = slope * torch.tensor([1.0, 9.0]) * sum(group[0].sum(1) for group in state)
            return own[None], torch.zeros_like(own)

        found = steer(state, loss, settings, norms, steps=[step])
        norms = found.norms
        torch.testing.assert_close(found.reach, torch.full((2,), float(share)))
    assert steer(state, loss, settings, steps=[step]).reach.tolist() == [0, 0]  # no gradient so far
