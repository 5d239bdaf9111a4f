"""Which positions each step moves."""

import pytest
import torch

from pplm.text.step_plan import window_weights


def weights_of(lengths, moved, window, **decay):
    return window_weights(torch.tensor(lengths), moved, window, **decay)


def test_decay_weighs_the_positions_of_a_window_from_one_nth_to_one():
    weights = weights_of([9], range(5, 9), 4, decay=True)
    assert weights.shape == (1, 1, 4, 1)
    assert weights.flatten().tolist() == [0.25, 0.5, 0.75, 1.0]


def test_decay_spares_the_samples_that_are_not_longer_than_the_window():
    weights = weights_of([9, 4, 2, 5], range(5, 9), 4, decay=True)
    ramp = [0.25, 0.5, 0.75, 1.0]
    assert weights[:, 0, :, 0].tolist() == [ramp, [1.0] * 4, [1.0] * 4, ramp]


@pytest.mark.parametrize(
    ("moved", "window", "decay"), [(range(5, 9), 4, False), (range(9), 0, True), (range(9), 9, True)]
)
def test_there_are_no_weights_where_all_are_one(moved, window, decay):
    assert weights_of([9, 3], moved, window, decay=decay) is None


@pytest.mark.parametrize(("decay", "wanted"), [(False, [0, 0, 0, 1, 1]), (True, [0, 0, 0, 0.5, 1])])
def test_a_window_that_is_shorter_than_another_step_s_leaves_the_older_positions(decay, wanted):
    assert weights_of([9], range(4, 9), 2, decay=decay).flatten().tolist() == wanted
    assert weights_of([9], range(9), 2, decay=decay).flatten().tolist() == [0] * 4 + wanted
