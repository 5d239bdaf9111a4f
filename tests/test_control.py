"""The controller on plants that are understood: first-order lags with a gain, delay and limits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pplm import InputError
from pplm.control import Controller, Gains

GAINS = Gains(proportional=0.5, integral=0.2)


def run(target, *, steps=80, gain=1.0, lag=0.5, gains=GAINS, offset=0.0):
    """Return levels and pushes of a plant y <- lag y + (1 - lag) (gain u + offset) under control."""
    target = torch.as_tensor(target, dtype=torch.float64)
    targets = target if target.dim() == 2 else target.expand(steps, -1)
    level = torch.zeros_like(targets[0])
    controller = Controller(gains, level)
    levels, pushes = [], []
    for wanted in targets:
        push = controller.update(wanted - level)
        level = lag * level + (1 - lag) * (gain * push + offset)
        levels.append(level)
        pushes.append(push)
    return torch.stack(levels), torch.stack(pushes)


@pytest.mark.parametrize("gain", [0.7, 1.0, 2.0])
def test_a_step_is_reached_and_hardly_overshot_whatever_the_plants_gain(gain):
    levels, _ = run([0.3, 0.6], gain=gain)
    wanted = torch.tensor([0.3, 0.6], dtype=torch.float64)
    assert torch.allclose(levels[-1], wanted, rtol=0.01)
    assert (levels.max(0).values <= 1.2 * wanted).all()


def test_a_constant_disturbance_leaves_no_error():
    levels, _ = run([0.5], offset=0.2)
    assert levels[-1].item() == pytest.approx(0.5, rel=0.01)


def test_the_push_leaves_its_bound_at_once_when_a_target_out_of_reach_comes_into_reach():
    unreachable, reachable = torch.full((200, 1), 5.0), torch.full((40, 1), 0.5)
    levels, pushes = run(torch.cat([unreachable, reachable]))
    assert pushes[199].item() == 1
    assert pushes[200].item() < 1  # no windup: 200 steps of error weigh nothing
    assert levels[-1].item() == pytest.approx(0.5, rel=0.02)


@given(
    errors=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    low=st.floats(-2, 0),
    high=st.floats(0.01, 2),
    proportional=st.floats(0, 100),
    integral=st.floats(0, 100),
)
def test_the_push_stays_within_its_bounds(errors, low, high, proportional, integral):
    gains = Gains(proportional=proportional, integral=integral, low=low, high=high)
    controller = Controller(gains, torch.zeros(1, dtype=torch.float64))
    for error in errors:
        push = controller.update(torch.tensor([error], dtype=torch.float64))
        assert low <= push.item() <= high


def test_an_unknown_level_leaves_the_push_and_samples_are_independent():
    both, alone = (Controller(GAINS, torch.zeros(size)) for size in (2, 1))
    for error in (0.3, torch.nan, 0.1):
        pushed = both.update(torch.tensor([error, 0.5]))
        single = alone.update(torch.tensor([error]))
        assert pushed[0] == single[0]
    known = Controller(GAINS, torch.zeros(1))
    for error in (0.3, 0.1):
        without = known.update(torch.tensor([error]))
    assert torch.equal(single, without)  # the next change is one from the last known error
    controller = Controller(GAINS, torch.zeros(1))
    before = controller.update(torch.tensor([0.4])).clone()
    assert torch.equal(controller.update(torch.tensor([torch.nan])), before)


def test_no_gain_means_no_change_and_selecting_keeps_each_samples_push():
    still = Controller(Gains(proportional=0, integral=0), torch.tensor([0.4]))
    assert still.update(torch.tensor([9.0])).item() == pytest.approx(0.4)
    controller = Controller(GAINS, torch.zeros(3))
    controller.update(torch.tensor([0.1, 0.2, 0.3]))
    expected = controller.update(torch.tensor([0.1, 0.1, 0.1]))[[2, 0]]
    controller = Controller(GAINS, torch.zeros(3))
    controller.update(torch.tensor([0.1, 0.2, 0.3]))
    controller.select(torch.tensor([2, 0]))
    assert torch.equal(controller.update(torch.tensor([0.1, 0.1])), expected)


@pytest.mark.parametrize(
    "wrong", [{"proportional": -1}, {"integral": float("nan")}, {"low": 1, "high": 1}, {"high": float("inf")}]
)
def test_gains_that_cannot_be_used_are_refused_by_name(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Gains(**{"proportional": 1, "integral": 1, **wrong})
