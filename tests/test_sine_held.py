"""A wave held at an amplitude: the attribute model without it, the controller, and what is measured."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pplm import InputError
from pplm.control import Gains
from pplm.sine import AmplitudeControl, SineConfig, Swing, WaveNetworks, draw, train
from pplm.sine.amplitude import recent_amplitude
from pplm.sine.held import amplitude_over_time, course, measure_held

SEEDS = (0, 1)
STILL = Gains(proportional=0, integral=0, low=-0.2, high=0.2)


@pytest.fixture(scope="module")
def networks():
    return train(SEEDS, epochs=20)


def sine(hertz, height, phase=0.0, num_samples=400):
    time = torch.arange(num_samples, dtype=torch.float64) / 100
    return height * torch.sin(2 * math.pi * hertz * time + phase)[None]


@pytest.mark.parametrize("push", [-0.02, -0.005, 0.0, 0.01])
def test_the_sample_that_a_push_likes_best_changes_an_amplitude_s_logarithm_by_half_the_push(push):
    cos = math.cos(2 * math.pi * 2 / 100)
    wave = list(sine(2, 0.5, num_samples=10)[0])
    for _ in range(200):
        past = torch.stack(wave)[None]
        best = (cos * wave[-1] + (cos * wave[-1] - wave[-2]) / (1 - push))[None].requires_grad_()
        loss = Swing(2, push).loss(best, past)
        assert torch.autograd.grad(loss.sum(), best)[0].abs().item() < 1e-12
        wave.append(best.detach()[0])
    grown = amplitude_over_time(torch.stack(wave)[None], 2)[0]
    assert math.log(grown[200] / grown[100]) == pytest.approx(100 * push / 2, rel=0.05, abs=1e-9)


@given(st.floats(0.5, 10), st.floats(0.01, 1), st.floats(0, 6))
def test_the_controller_sees_a_sine_s_amplitude_in_ten_samples(hertz, height, phase):
    assert recent_amplitude(sine(hertz, height, phase), hertz).item() == pytest.approx(height, rel=1e-6)


def test_the_amplitude_over_the_last_period_is_exact_and_looks_back_only():
    wave = sine(2, 0.4, 0.3)
    measured = amplitude_over_time(wave, 2)
    assert measured[:, :49].isnan().all()
    torch.testing.assert_close(measured[:, 49:], torch.full_like(wave, 0.4)[:, 49:])
    later = torch.cat([wave[:, :200], torch.rand(1, 200, dtype=torch.float64)], dim=1)
    assert torch.equal(amplitude_over_time(later, 2)[:, 49:200], measured[:, 49:200])


def test_a_course_counts_the_other_side_of_the_target_as_overshoot_and_every_error_after_two_seconds():
    def measured(*levels):
        return course(torch.tensor([math.nan] * 10 + [level for level, count in levels for _ in range(count)]))

    assert measured((1.0, 50), (0.08, 50), (0.02, 200)) == (0.61, 0.0, pytest.approx(0.02))
    assert measured((1.0, 50), (-0.3, 20), (0.05, 200)) == (0.81, pytest.approx(0.3), pytest.approx(0.05))
    assert measured((1.0, 50), (-0.05, 20), (0.4, 20), (0.05, 200))[1] == pytest.approx(0.4)  # swings back
    assert measured((1.0, 50), (0.05, 200), (0.3, 10))[2] == pytest.approx(0.3)
    assert measured((1.0, 300)) == (None, 0.0, 1.0)


def test_a_controlled_wave_holds_what_an_uncorrected_one_passes_by(networks):
    held = measure_held(networks, SEEDS, AmplitudeControl(amplitude=0.5), num_samples=250)
    assert [row.seed for row in held.rows] == list(SEEDS)
    for row in held.rows:
        assert row.largest_error <= 0.1
        assert row.overshoot <= 0.2
        assert row.reached < 1
        assert row.unsteered_amplitude > 0.8
    uncorrected = amplitude_over_time(held.constant.samples, 2)
    assert (uncorrected[:, -1] < 0.93 * uncorrected[:, 200]).all()  # it goes on fading
    assert (held.constant.push[:, 10:] == held.constant_push).all()
    assert not held.unsteered.push.any()
    assert held.steered.push.abs().max() <= 0.2


@pytest.mark.slow
def test_the_integral_part_answers_a_network_that_keeps_pulling(networks):
    config = SineConfig.for_protocol("plug-and-play", kl_scale=0.03)
    means = []
    for integral in (0.0, 0.002):
        gains = Gains(proportional=0.1, integral=integral, low=-0.2, high=0.2)
        control = AmplitudeControl(amplitude=0.5, gains=gains)
        waves = draw(networks, control, config, num_samples=350).samples
        means.append((amplitude_over_time(waves, 2)[:, 200:].mean(1) / 0.5 - 1).abs())
    assert (means[1] < means[0]).all()


def test_waves_of_a_batch_are_those_of_single_runs_and_a_control_can_be_used_again(networks):
    control = AmplitudeControl(amplitude=0.6)
    before = {name: tensor.clone() for name, tensor in vars(networks).items()}
    together = draw(networks, control, num_samples=40)
    for index in range(len(SEEDS)):
        one = WaveNetworks(*(tensor[index : index + 1] for tensor in vars(networks).values()))
        alone = draw(one, control, num_samples=40)
        torch.testing.assert_close(together.samples[index : index + 1], alone.samples, rtol=0, atol=1e-7)
        torch.testing.assert_close(together.push[index : index + 1], alone.push, rtol=0, atol=1e-7)
    for name, tensor in vars(networks).items():
        assert torch.equal(tensor, before[name])
        assert tensor.grad is None


def test_no_gain_is_the_same_as_no_push(networks):
    still = draw(networks, AmplitudeControl(amplitude=0.3, gains=STILL), num_samples=40)
    assert torch.equal(still.samples, draw(networks, Swing(2, 0.0), num_samples=40).samples)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: AmplitudeControl(amplitude=0.001),
            "target amplitude must be finite and between 0.01 and 1; got 0.001",
        ),
        (lambda: AmplitudeControl(amplitude=1.1), "got 1.1"),
        (lambda: AmplitudeControl(amplitude=0.5, frequency=11), "target's frequency .* 0.5 and 10"),
        (lambda: AmplitudeControl(amplitude=0.5, gains=Gains(proportional=1, integral=1)), "bounds .* got 0.0 and 1.0"),
        (
            lambda: AmplitudeControl(amplitude=0.5, gains=Gains(proportional=1, integral=1, low=0.1, high=0.2)),
            "must include 0 and lie between",
        ),
        (lambda: Swing(2, 0.6), "push must be between -1 and 0.5; got 0.6"),
        (lambda: Swing(2, math.nan), "push"),
        (lambda: Swing(60, 0), "frequency"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_controller_needs_the_plug_and_play_protocol(networks):
    with pytest.raises(InputError, match="protocol is 'published'"):
        draw(networks, AmplitudeControl(amplitude=0.5), SineConfig.for_protocol("published"), num_samples=20)
