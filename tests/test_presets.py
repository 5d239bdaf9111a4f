"""Which settings a request comes to: the presets `paper` and `fast`, a model's own and the general ones."""

import dataclasses
from types import SimpleNamespace

import pytest
from preset_cases import BAG, HEAD, OWN, settings

import pplm
from attribute_models import Avoid
from pplm import InputError, SteeringConfig
from pplm.benchmark import BenchmarkConfig
from pplm.presets import FAST_PRESETS, PAPER_PRESETS


class OwnModel:
    def loss(self, step):
        return step.logits[:, 0]


# --- the paper's ------------------------------------------------------------------------------------------------


def test_the_preset_paper_gives_a_bag_the_paper_s_settings():
    config = settings([BAG], preset="paper")
    assert (config.step_size, config.num_iterations, config.gamma, config.window_length) == (0.03, 3, 1.5, 5)
    assert (config.kl_scale, config.gm_scale, config.norm_rule, config.layers) == (0.01, 0.99, "running_max", 0)
    assert config == SteeringConfig()


@pytest.mark.parametrize("order", [1, -1])
def test_the_preset_paper_gives_a_discriminator_and_any_mixture_with_one_the_paper_s_settings(order):
    for attributes in ([HEAD], [BAG, HEAD][::order], [(BAG, 2.0), (HEAD, 0.5)][::order]):
        config = settings(attributes, preset="paper")
        assert (config.step_size, config.num_iterations, config.gamma, config.horizon_length) == (0.04, 10, 1.0, 1)
        assert (config.kl_scale, config.gm_scale, config.norm_rule, config.layers) == (0.01, 0.95, "current", 0)


def test_no_preset_can_be_changed():
    for table in (PAPER_PRESETS, FAST_PRESETS):
        with pytest.raises(TypeError):
            table["bag_of_words"]["step_size"] = 1.0


def test_the_presets_hold_fields_of_the_settings_alone():
    names = {field.name for field in dataclasses.fields(SteeringConfig)}
    for table in (PAPER_PRESETS, FAST_PRESETS):
        for kind in table.values():
            assert set(kind) <= names


# --- which one --------------------------------------------------------------------------------------------------


def test_a_model_without_settings_of_its_own_takes_the_dial_at_its_usual_strength():
    for attributes, kinds in (([BAG], {"bag_of_words"}), ([BAG, HEAD], {"bag_of_words", "discriminator"})):
        found = settings(attributes)
        assert found == settings(attributes, preset="fast") == settings(attributes, strength=0.5)
        assert (found.strength, found.num_iterations, set(found.steps)) == (0.5, 1, kinds)
        assert found.layers
        assert found.budget == pytest.approx(0.15)  # as the help of strength says


def test_an_explicit_step_size_takes_the_general_fast_settings_instead():
    for attributes, kind in (([BAG], "bag_of_words"), ([HEAD], "discriminator"), ([BAG, HEAD], "mixture")):
        base = PAPER_PRESETS["bag_of_words" if kind == "bag_of_words" else "discriminator"]
        found = settings(attributes, step_size=0.7)
        wanted = {**base, **FAST_PRESETS[kind], "step_size": 0.7}
        assert found == SteeringConfig(**wanted, steps=found.steps)
        assert not found.dialled
        assert set(found.steps) == ({"bag_of_words", "discriminator"} if kind == "mixture" else set())
    head = settings([HEAD], step_size=0.7)
    assert (head.horizon_length, head.kl_scale) == (0, 0.0)  # so that the steps need no logits


def test_the_dial_takes_a_model_s_own_layers_and_iterations_and_its_usual_numbers_for_all_else():
    own = {"fast": {"bag_of_words": {"step_size": 6.0, "layers": 3, "num_iterations": 2, "gm_scale": 0.1}}}
    found = settings([BAG], presets=own, strength=0.2)
    assert (found.strength, found.layers, found.num_iterations) == (0.2, 3, 2)
    assert dataclasses.replace(found, strength=0.5, layers=0.15, num_iterations=1) == settings([BAG])
    assert settings([BAG], presets=own, target=0.1, gm_scale=0.7).gm_scale == 0.7
    assert (settings([BAG]).gm_scale, settings([HEAD]).gm_scale, settings([BAG, HEAD]).gm_scale) == (0.5, 1.0, 0.5)


def test_a_model_s_own_settings_may_be_the_dial_s():
    own = {"fast": {"bag_of_words": {"strength": 0.4, "layers": 3}}}
    assert settings([BAG], presets=own) == settings([BAG], strength=0.4, layers=3)
    assert settings([BAG], presets=own, strength=0.7) == settings([BAG], strength=0.7, layers=3)
    fixed = settings([BAG], presets=own, step_size=0.7)
    assert fixed == settings([BAG], step_size=0.7, layers=3)
    assert settings([HEAD], presets=own) == settings([HEAD])


@pytest.mark.parametrize("dial", [{"strength": 0.5}, {"target": 0.1}, {"target": {"bag": 0.1}}])
def test_the_dial_and_a_step_size_or_the_preset_paper_are_refused_together(dial):
    name = next(iter(dial))
    for ask in (
        lambda: settings([BAG], step_size=0.5, **dial),
        lambda: settings([BAG, HEAD], **{"discriminator.step_size": 0.5}, **dial),
        lambda: SteeringConfig(step_size=0.5, **dial),
    ):
        with pytest.raises(InputError, match=f"{name} takes the place of step_size"):
            ask()
    with pytest.raises(InputError, match="takes the place of step_size"):
        settings([BAG], **dial).changed(step_size=0.5)
    with pytest.raises(InputError, match="preset paper steers by a step_size"):
        settings([BAG], preset="paper", **dial)


def test_a_model_s_own_settings_come_before_the_general_ones_and_fast_before_paper():
    assert (settings([BAG], presets=OWN).step_size, settings([BAG], presets=OWN).layers) == (6.0, 1)
    assert settings([BAG], presets=OWN, preset="fast") == settings([BAG], presets=OWN)
    assert settings([BAG], presets=OWN, preset="paper") == SteeringConfig(step_size=0.4)
    only_paper = {"paper": OWN["paper"]}
    assert settings([BAG], presets=only_paper) == SteeringConfig(step_size=0.4)
    assert settings([BAG], presets=only_paper, preset="fast") == settings([BAG])
    assert settings([BAG], presets=only_paper, strength=0.5) == settings([BAG])
    assert settings([HEAD], presets=OWN) == settings([HEAD], preset="fast")


def test_a_model_s_own_fast_settings_stand_on_the_general_ones():
    own = {"fast": {"discriminator": {"step_size": 2.0}}}
    assert settings([HEAD], presets=own) == settings([HEAD], step_size=2.0)


@pytest.mark.parametrize(
    ("presets", "words"),
    [
        (None, "presets must be a table"),
        ({"paper": None}, "preset 'paper' must be a table"),
        ({"fast": {"bag_of_words": 3}}, "bag_of_words of preset 'fast' must be a table"),
        ({"paper": {"bag_of_words": {"stepsize": 1}}}, "unknown setting 'stepsize'"),
    ],
)
def test_presets_that_are_no_table_are_refused(presets, words):
    with pytest.raises(InputError, match=words):
        settings([BAG], presets=presets, preset="fast" if presets and "fast" in presets else "paper")


def test_a_model_s_own_settings_replace_only_what_they_name():
    own = {"discriminator": {"step_size": 0.2, "kl_scale": 0.5}, "mixture": {"step_size": 0.07}}
    mixed = settings([BAG, HEAD], presets=own)
    assert (mixed.step_size, mixed.kl_scale, mixed.num_iterations) == (0.07, 0.5, 10)
    assert settings([HEAD, HEAD], presets=own).step_size == 0.2
    assert settings([HEAD, HEAD], presets=own).steps == {}
    assert settings([BAG, BAG], presets=own) == settings([BAG, BAG])
    assert settings([BAG, HEAD], presets=own, step_size=1.0).step_size == 1.0


def test_single_fields_override_the_preset_and_are_checked():
    config = settings([HEAD], preset="paper", step_size=0.2)
    assert (config.step_size, config.num_iterations) == (0.2, 10)
    with pytest.raises(InputError, match="step_size"):
        settings([HEAD], step_size=-1)
    for wrong in ({"strength": 1.1}, {"strength": "much"}, {"target": 1.0}, {"target": {}}, {"target": {"a": 0}}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            settings([HEAD], **wrong)


def test_an_attribute_model_says_of_which_kind_it_is():
    assert settings([OwnModel()]) == settings([BAG])
    assert settings([Avoid(HEAD)]) == settings([HEAD])
    assert settings([SimpleNamespace(steering_kind="discriminator")]) == settings([HEAD])
    with pytest.raises(InputError, match="steering_preset is now called steering_kind; rename it"):
        settings([SimpleNamespace(steering_preset="discriminator")])
    with pytest.raises(InputError, match=r"steering_kind of SimpleNamespace must be one of .*; got 'head'"):
        settings([SimpleNamespace(steering_kind="head")])


def test_an_unknown_preset_is_refused_wherever_it_is_named(gpt2, tokenizer, bag):
    for ask in (
        lambda: settings([BAG], preset="slow"),
        lambda: BenchmarkConfig(preset="slow"),
        lambda: pplm.steered_decoding([bag], preset="slow"),
        lambda: pplm.generate(gpt2, tokenizer, "a", attributes=[bag], preset="slow", max_new_tokens=1),
    ):
        with pytest.raises(InputError, match="preset must be one of paper, fast; got 'slow'"):
            ask()


def test_settings_and_a_preset_together_are_refused(gpt2, tokenizer, bag):
    with pytest.raises(InputError, match="steering and preset='fast' both say how to steer"):
        pplm.generate(gpt2, tokenizer, "a", attributes=[bag], preset="fast", steering=SteeringConfig())
