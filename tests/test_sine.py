"""The sine wave: networks, attribute models, both protocols, and the agreement with steering by hand."""

import ast
import math
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pplm
from pplm import sine
from pplm.sine import Oscillator, Reference, SineConfig, draw, sine_wave, train
from pplm.sine.experiment import amplitude, frequency, measure_waves

ROOT = Path(__file__).parent.parent
SEEDS = (0, 1, 2)
PROTOCOLS = ("published", "plug-and-play")
FREQUENCIES = st.floats(0.5, 45)
AMPLITUDES = st.floats(0.05, 1)
PHASES = st.floats(0, 2 * math.pi)


@pytest.fixture(scope="module")
def networks():
    """Trained for a tenth of the published time: they draw waves, and drift more."""
    return train(SEEDS, epochs=20)


def pick(networks, index):
    return sine.WaveNetworks(*(tensor[index : index + 1] for tensor in vars(networks).values()))


def pure_sine(hertz, height, phase, num_samples=1000):
    time = torch.arange(num_samples, dtype=torch.float64) / 100
    return height * torch.sin(2 * math.pi * hertz * time + phase)[None]


@given(FREQUENCIES, AMPLITUDES, PHASES, st.integers(2, 500))
def test_the_oscillator_finds_nothing_wrong_with_a_sine_of_its_frequency_and_amplitude(hertz, height, phase, t):
    wave = pure_sine(hertz, height, phase)
    assert Oscillator(hertz, height).loss(wave[:, t], wave[:, :t]).item() == pytest.approx(0, abs=1e-16)


@given(FREQUENCIES, st.floats(0.05, 0.9), PHASES)
def test_only_the_energy_tells_the_oscillator_that_the_amplitude_is_wrong(hertz, height, phase):
    wave = pure_sine(hertz, height, phase)
    recurrence = Oscillator(hertz, 1.0, energy_scale=0).loss(wave[:, 100], wave[:, :100])
    assert recurrence.item() == pytest.approx(0, abs=1e-16)
    wanted = (math.sin(2 * math.pi * hertz / 100) * (height**2 - 1) / 2) ** 2
    with_energy = Oscillator(hertz, 1.0, energy_scale=1).loss(wave[:, 100], wave[:, :100])
    assert with_energy.item() == pytest.approx(wanted, rel=1e-6)


def test_the_oscillator_notices_a_wrong_frequency():
    wave = pure_sine(2.0, 1.0, 0.0)
    losses = [Oscillator(2.5).loss(wave[:, t], wave[:, :t]).item() for t in range(10, 60)]
    assert max(losses) > 1e-5


def test_the_oscillator_looks_at_nothing_but_the_last_two_samples():
    past = torch.rand(3, 20, dtype=torch.float64)
    other = torch.cat([torch.rand(3, 5, dtype=torch.float64), past[:, -2:]], dim=1)
    sample = torch.rand(3, dtype=torch.float64)
    torch.testing.assert_close(Oscillator(2.0).loss(sample, past), Oscillator(2.0).loss(sample, other), rtol=0, atol=0)


@given(st.floats(0.5, 20), AMPLITUDES, PHASES)
def test_frequency_and_amplitude_of_known_waves_are_measured(hertz, height, phase):
    wave = pure_sine(hertz, height, phase)
    assert frequency(wave).item() == pytest.approx(hertz, rel=0.01)
    assert amplitude(wave).item() == pytest.approx(height, rel=0.1)  # parts of a cycle weigh at 0.5 Hz


@given(st.integers(1, 20), AMPLITUDES, PHASES)
def test_amplitude_is_exact_over_whole_cycles(hertz, height, phase):
    assert amplitude(pure_sine(hertz, height, phase)).item() == pytest.approx(height, rel=1e-9)


def test_a_wave_that_does_not_oscillate_has_no_frequency():
    assert torch.isnan(frequency(torch.full((1, 1000), 0.3))).all()


def test_only_what_comes_after_two_seconds_is_measured():
    wave = pure_sine(3.0, 0.5, 0.1)
    spoilt = torch.cat([torch.rand(1, 200, dtype=torch.float64), wave[:, 200:]], dim=1)
    assert frequency(spoilt).item() == frequency(wave).item()
    assert amplitude(spoilt).item() == amplitude(wave).item()


@given(st.floats(0.5, 10))
def test_the_wanted_wave_starts_as_the_trained_one_and_never_jumps(hertz):
    wave, trained = sine_wave(hertz), sine_wave()
    torch.testing.assert_close(wave[:10], trained[:10], rtol=0, atol=0)
    assert wave.diff().abs().max() <= 2 * math.pi * max(hertz, 2.0) / 100 + 1e-12
    assert frequency(wave[None]).item() == pytest.approx(hertz, rel=0.01)


def test_at_two_hertz_the_wanted_wave_is_the_plain_sine():
    torch.testing.assert_close(sine_wave()[None], pure_sine(2.0, 1.0, 0.0), rtol=0, atol=1e-12)


def test_a_batch_of_seeds_trains_the_networks_that_single_runs_train(networks):
    for index, seed in enumerate(SEEDS):
        alone = vars(train([seed], epochs=20))
        for name, tensor in vars(pick(networks, index)).items():
            torch.testing.assert_close(tensor, alone[name], rtol=0, atol=1e-9)


def test_the_same_seed_trains_the_same_network_and_another_seed_another():
    first, again, other = train([4], epochs=1), train([4], epochs=1), train([5], epochs=1)
    assert torch.equal(first.hidden_weight, again.hidden_weight)
    assert not torch.equal(first.hidden_weight, other.hidden_weight)


def test_training_teaches_the_wave():
    windows = sine_wave()[:990].view(90, 11)

    def error(networks):
        one = sine.WaveNetworks(*(tensor.expand(90, *tensor.shape[1:]) for tensor in vars(networks).values()))
        return ((one.output(one.hidden(windows[:, :10])) - windows[:, 10]) ** 2).mean().item()

    assert error(train([0], epochs=10)) < 0.01 < error(train([0], epochs=1))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("attribute", [Reference(sine_wave()), Oscillator(2.5)], ids=["reference", "oscillator"])
def test_waves_of_a_batch_are_those_of_single_runs(networks, protocol, attribute):
    config = SineConfig.for_protocol(protocol, norm_rule="running_max")
    together = draw(networks, attribute, config, num_samples=60)
    for index in range(len(SEEDS)):
        alone = draw(pick(networks, index), attribute, config, num_samples=60)
        torch.testing.assert_close(together.samples[index : index + 1], alone.samples, rtol=0, atol=1e-7)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_networks_are_bit_identical_afterwards_and_hold_no_gradient(networks, protocol):
    before = {name: tensor.clone() for name, tensor in vars(networks).items()}
    draw(networks, Reference(sine_wave()), SineConfig.for_protocol(protocol), num_samples=40)
    for name, tensor in vars(networks).items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.grad is None
        assert not tensor.requires_grad


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("knob", ["step_size", "num_iterations"])
def test_steering_by_nothing_gives_the_unsteered_waves(networks, protocol, knob):
    config = SineConfig.for_protocol(protocol, **{knob: 0})
    steered = draw(networks, Reference(sine_wave()), config, num_samples=60)
    assert torch.equal(steered.samples, draw(networks, num_samples=60).samples)
    assert torch.equal(steered.divergence, torch.zeros_like(steered.divergence))


def test_a_heavier_divergence_keeps_the_waves_closer_to_what_the_network_would_emit(networks):
    divergence = [
        draw(
            networks,
            Oscillator(2.5),
            SineConfig.for_protocol("plug-and-play", kl_scale=scale),
            num_samples=30,
        ).divergence.sum()
        for scale in (0.0, 1.0, 1000.0)
    ]
    assert divergence[0] > 1.5 * divergence[1] > 10 * divergence[2]


def test_more_rounds_arrive_closer_to_the_wanted_sample(networks):
    losses = [
        draw(
            networks,
            Reference(sine_wave(2.5)),
            SineConfig.for_protocol("plug-and-play", rounds=rounds),
            num_samples=60,
        ).attribute_loss.sum()
        for rounds in (1, 4, 12)
    ]
    assert losses[0] > 10 * losses[1] > 100 * losses[2]


def test_published_emits_first_and_then_moves_the_last_layer_by_a_normalised_step(networks):
    wave = sine_wave()
    unsteered = draw(networks, num_samples=12).samples
    steered = draw(networks, Reference(wave), SineConfig.for_protocol("published"), num_samples=12).samples
    assert torch.equal(steered[:, :11], unsteered[:, :11])
    hidden, sample = networks.hidden(unsteered[:, :10]), unsteered[:, 10]
    gradient = (2 * (sample - wave[10]) * (1 - sample**2))[:, None] * hidden
    moved = networks.output_weight - 0.05 * gradient / gradient.norm(dim=1, keepdim=True)
    expected = networks.output(networks.hidden(unsteered[:, :11]), moved)
    torch.testing.assert_close(steered[:, 11], expected, rtol=0, atol=1e-12)


def test_published_keeps_what_it_moved(networks):
    follow_twice = Reference(torch.cat([sine_wave()[:12], torch.full((28,), 0.5, dtype=torch.float64)]))
    config = SineConfig.for_protocol("published")
    steered = draw(networks, follow_twice, config, num_samples=40)
    assert (steered.divergence[:, 11:] > 0).all()
    assert steered.divergence[:, 30:].mean() > steered.divergence[:, 11].mean()


def test_plug_and_play_steers_the_very_sample_that_it_emits(networks):
    wave = sine_wave(2.5)
    unsteered = draw(networks, num_samples=11).samples[:, 10]
    steered = draw(networks, Reference(wave), num_samples=11).samples[:, 10]
    assert ((steered - wave[10]).abs() < 0.1 * (unsteered - wave[10]).abs()).all()


def test_a_steered_network_follows_the_reference(networks):
    wave = sine_wave(num_samples=500)
    rows = measure_waves(networks, SEEDS, wave, Reference(wave)).rows
    assert [row.seed for row in rows] == list(SEEDS)
    for row in rows:
        assert row.steered_sse < 0.1
        assert row.unsteered_sse > 1


@pytest.mark.parametrize(
    ("hertz", "height"),
    [(2.5, 1.0), *(pytest.param(*own, marks=pytest.mark.slow) for own in ((2.0, 1.0), (2.0, 0.5)))],
)
def test_an_oscillator_sets_frequency_and_amplitude(networks, hertz, height):
    samples = draw(networks, Oscillator(hertz, height), num_samples=450).samples
    assert ((frequency(samples) / hertz - 1).abs() < 0.02).all()
    assert ((amplitude(samples) / height - 1).abs() < 0.05).all()


def test_the_python_in_the_documentation_steers_by_hand_as_the_library_does(monkeypatch, capsys):
    """The block is run as it stands, only with a shorter training."""
    text = (ROOT / "docs/sine_wave.md").read_text(encoding="utf-8")
    python = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (block,) = [block for block in python if "import sine_wave" in block]
    monkeypatch.setattr(sine, "train", partial(train, epochs=20))
    names = {}
    exec(compile(block, "docs/sine_wave.md", "exec"), names)  # noqa: S102
    assert len(block.strip().splitlines()) <= 16
    assert float(capsys.readouterr().out) < 0.1
    config = SineConfig.for_protocol("plug-and-play", kl_scale=0)
    library = draw(train([0], epochs=20), Reference(sine_wave()), config, num_samples=300)
    torch.testing.assert_close(names["past"][:, :300], library.samples, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "module", ["amplitude", "attributes", "experiment", "held", "network", "plot", "plot_held", "wave"]
)
def test_the_sine_wave_imports_the_core_and_nothing_of_text(module):
    tree = ast.parse((ROOT / "pplm" / "sine" / f"{module}.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    ours = {name for name in imported if name.startswith(("pplm", "attribute_models"))}
    allowed = {
        "checks",
        "config",
        "control",
        "errors",
        "files.figures",
        "seeds",
        "short_repr",
        "steering",
        "sine.amplitude",
        "sine.attributes",
        "sine.wave",
        "sine.network",
        "sine.experiment",
        "sine.held",
    }
    assert {name.removeprefix("pplm.") for name in ours} <= allowed
    assert not {name for name in imported if name.startswith(("transformers", "datasets", "click", "rich"))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Oscillator(0), "frequency must be above 0"),
        (lambda: Oscillator(50), "below 50 Hz"),
        (lambda: Oscillator(math.nan), "frequency"),
        (lambda: Oscillator(2, 1.5), "amplitude must be above 0 and at most 1"),
        (lambda: Oscillator(2, energy_scale=-1), "energy_scale"),
        (lambda: Reference(torch.zeros(2, 3)), r"shape \(T,\); got shape \(2, 3\)"),
        (lambda: train([]), "seeds"),
        (lambda: train([-1]), "seeds"),
        (lambda: train([0], epochs=0), "epochs must be a whole number of at least 1; got 0"),
        (lambda: SineConfig.for_protocol("keras"), "protocol must be one of published, plug-and-play; got 'keras'"),
        (lambda: SineConfig.for_protocol("published", rounds=0), "rounds"),
        (lambda: SineConfig.for_protocol("published", step_size=-1), "step_size"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value(make, message):
    with pytest.raises(pplm.InputError, match=message):
        make()


def test_a_reference_shorter_than_the_wave_is_refused(networks):
    with pytest.raises(pplm.InputError, match="20 samples"):
        draw(networks, Reference(sine_wave()[:20]), num_samples=30)


def test_steps_that_lead_to_infinity_are_refused(networks):
    class Steep:
        def loss(self, sample, past):  # noqa: ARG002
            return sample * 1e300

    config = SineConfig.for_protocol("published", step_size=3e38, gamma=0.0)
    with pytest.raises(pplm.InputError, match="lower step_size"):
        draw(networks, Steep(), config, num_samples=60)


def test_fewer_samples_than_the_given_ones_are_refused(networks):
    with pytest.raises(pplm.InputError, match="num_samples must be at least 10"):
        draw(networks, num_samples=9)
