"""`SteeringConfig`: every field checked by name, and which settings can move nothing."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_models import BagOfWords, Discriminator
from pplm import InputError, SteeringConfig
from pplm.checks import LARGEST

FLOATS = ("step_size", "gamma", "kl_scale", "gm_scale")
WHOLE = ("num_iterations", "window_length", "horizon_length", "grad_length")


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_numbers_that_are_negative_or_not_finite_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"{name} must be finite .*; got {value}"):
        SteeringConfig(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_negative_counts_are_refused_by_name(name):
    with pytest.raises(InputError, match=rf"{name} must be .* at least [01]; got -1"):
        SteeringConfig(**{name: -1})


@pytest.mark.parametrize("name", FLOATS + WHOLE)
@pytest.mark.parametrize("value", ["0.5", None, True, [1]])
def test_values_of_another_type_are_refused_even_true_for_one(name, value):
    with pytest.raises(InputError, match=f"{name} must be of type"):
        SteeringConfig(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_fractions_are_refused_for_counts(name):
    with pytest.raises(InputError, match=f"{name} must be of type int; got 1.5"):
        SteeringConfig(**{name: 1.5})


@pytest.mark.parametrize(("name", "value"), [("gm_scale", 1.01), ("gm_scale", 2), ("gamma", 2.1)])
def test_values_above_their_range_are_refused(name, value):
    with pytest.raises(InputError, match=rf"{name} must be finite and between 0 and [12]; got {value}"):
        SteeringConfig(**{name: value})


def test_a_number_too_large_for_a_float_is_refused_like_infinity():
    with pytest.raises(InputError, match="step_size"):
        SteeringConfig(step_size=10**400)


@pytest.mark.parametrize("name", ["step_size", "kl_scale", "skip_below"])
def test_a_number_that_float32_does_not_hold_is_refused_by_name(name):
    with pytest.raises(InputError, match=rf"{name} must be at most 3.4e\+38, the largest .* float32; got 1e\+39"):
        SteeringConfig(**{name: 1e39})
    SteeringConfig(**{name: LARGEST})


def test_a_horizon_of_zero_looks_at_no_future():
    assert SteeringConfig(horizon_length=0).horizon_length == 0


@pytest.mark.parametrize("value", [1, 0, "yes"])
def test_decay_takes_true_or_false_only(value):
    with pytest.raises(InputError, match="decay must be of type bool"):
        SteeringConfig(decay=value)


@pytest.mark.parametrize("value", ["max", "", None, 1])
def test_an_unknown_norm_rule_is_refused_with_the_known_ones(value):
    with pytest.raises(InputError, match="norm_rule must be one of running_max, current"):
        SteeringConfig(norm_rule=value)


def test_zero_and_whole_numbers_are_accepted_where_they_mean_something():
    config = SteeringConfig(
        step_size=0, num_iterations=0, gamma=0, kl_scale=0, gm_scale=1, window_length=0, grad_length=0
    )
    assert config.gm_scale == 1
    assert config.gamma == 0


@given(st.floats(), st.floats())
def test_any_float_is_either_accepted_in_range_or_refused(step_size, gm_scale):
    inside = 0 <= step_size <= LARGEST and 0 <= gm_scale <= 1
    if inside:
        assert SteeringConfig(step_size=step_size, gm_scale=gm_scale).step_size == step_size
    else:
        with pytest.raises(InputError):
            SteeringConfig(step_size=step_size, gm_scale=gm_scale)


def test_settings_cannot_be_changed_after_they_are_made():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SteeringConfig().step_size = 1.0


@pytest.mark.parametrize("name", ["step_size", "num_iterations", "grad_length", "gm_scale"])
def test_settings_of_which_one_is_zero_move_nothing(name):
    assert SteeringConfig().moves
    assert not SteeringConfig(**{name: 0}).moves


@pytest.mark.parametrize("name", ["kl_scale", "window_length", "gamma"])
def test_settings_whose_zero_means_off_still_move(name):
    assert SteeringConfig(**{name: 0}).moves


BAG = BagOfWords.from_token_ids([1, 2], 10)


class OwnModel:
    def loss(self, step):
        return step.logits[:, 0]


def head():
    import torch

    return Discriminator.from_weights(torch.eye(2), torch.zeros(2), ["a", "b"], "a")


def test_every_setting_explains_itself():
    for field in dataclasses.fields(SteeringConfig):
        if field.name in ("steps", "target"):  # tables, which no single number could be
            continue
        assert len(field.metadata["help"]) > 20
