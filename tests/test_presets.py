"""Which settings a request comes to: the presets `paper` and `fast`, a model's own and the general ones."""

import copy
import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

import pplm
from attribute_models import Avoid, BagOfWords, Discriminator
from pplm import InputError, SteeringConfig, SteeringPresets
from pplm.attached import Attached, attach
from pplm.benchmark import BenchmarkConfig, steering_settings
from pplm.models.fingerprint import identity, relation
from pplm.models.presets_file import read_presets, shipped_presets
from pplm.presets import FAST_PRESETS, KINDS, PAPER_PRESETS

BAG = BagOfWords.from_token_ids([1, 2], 10)
HEAD = Discriminator.from_weights(torch.eye(2), torch.zeros(2), ["a", "b"], "a")
OWN = {
    "paper": {"bag_of_words": {"step_size": 0.4}, "mixture": {"step_size": 0.07}},
    "fast": {"bag_of_words": {"step_size": 6.0, "layers": 1, "num_iterations": 1}},
}


def rounded(model):
    """Return a copy whose matrices have coarser numbers, as quantising leaves them."""
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        if parameter.dim() > 1:
            parameter.data = (parameter.data * 64).round() / 64
    return copied


def torch_model(**given):
    """Return what stands for a model of a single matrix."""
    matrix = torch.nn.Linear(2, 2, **given)
    return SimpleNamespace(base_model=matrix, config=SimpleNamespace(name_or_path="tiny"))


class OwnModel:
    def loss(self, step):
        return step.logits[:, 0]


def settings(attributes, **given):
    return SteeringConfig.for_attributes(attributes, **given)


# --- the paper's ------------------------------------------------------------------------------------------------


def test_the_paper_s_settings_for_a_bag():
    config = settings([BAG], preset="paper")
    assert (config.step_size, config.num_iterations, config.gamma, config.window_length) == (0.03, 3, 1.5, 5)
    assert (config.kl_scale, config.gm_scale, config.norm_rule, config.layers) == (0.01, 0.99, "running_max", 0)
    assert config == SteeringConfig()


@pytest.mark.parametrize("order", [1, -1])
def test_the_paper_s_settings_for_a_discriminator_and_for_any_mixture_with_one(order):
    for attributes in ([HEAD], [BAG, HEAD][::order], [(BAG, 2.0), (HEAD, 0.5)][::order]):
        config = settings(attributes, preset="paper")
        assert (config.step_size, config.num_iterations, config.gamma, config.horizon_length) == (0.04, 10, 1.0, 1)
        assert (config.kl_scale, config.gm_scale, config.norm_rule, config.layers) == (0.01, 0.95, "current", 0)


def test_no_preset_can_be_changed():
    for table in (PAPER_PRESETS, FAST_PRESETS):
        with pytest.raises(TypeError):
            table["bag_of_words"]["step_size"] = 1.0


# --- which one --------------------------------------------------------------------------------------------------


def test_a_model_without_settings_of_its_own_takes_the_dial_at_its_usual_strength():
    for attributes, kinds in (([BAG], {"bag_of_words"}), ([BAG, HEAD], {"bag_of_words", "discriminator"})):
        found = settings(attributes)
        assert found == settings(attributes, preset="fast") == settings(attributes, strength=0.5)
        assert (found.strength, found.num_iterations, set(found.steps)) == (0.5, 1, kinds)
        assert found.layers


def test_an_explicit_step_size_takes_the_general_fast_settings_instead():
    for attributes, kind in (([BAG], "bag_of_words"), ([HEAD], "discriminator"), ([BAG, HEAD], "mixture")):
        base = PAPER_PRESETS["bag_of_words" if kind == "bag_of_words" else "discriminator"]
        found = settings(attributes, step_size=0.7)
        wanted = {**base, **FAST_PRESETS[kind], "step_size": 0.7}
        assert found == SteeringConfig(**wanted, steps=found.steps)
        assert not found.dialled
        assert set(found.steps) == ({"bag_of_words", "discriminator"} if kind == "mixture" else set())


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


# --- every way in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "fast", None])
def test_every_way_to_steer_takes_the_preset(gpt2, tokenizer, words, preset):
    model = copy.copy(gpt2)
    attach(model, Attached(presets=SteeringPresets.of(OWN)))
    wanted = settings([words], presets=OWN, preset=preset)
    request = {"max_new_tokens": 3, "do_sample": True, "seed": 1}
    texts = [
        pplm.generate(model, tokenizer, "The lake", attributes=[words], **how, **request)[0]
        for how in ({"preset": preset}, {"steering": wanted})
    ]
    assert texts[0].attribute_loss == texts[1].attribute_loss
    assert len(texts[0].attribute_loss[0]) == wanted.num_iterations + 1
    inputs = tokenizer("The lake", return_tensors="pt")
    output = model.generate(
        **inputs,
        custom_generate=pplm.steered_decoding([words], preset=preset),
        max_new_tokens=2,
        return_dict_in_generate=True,
        pad_token_id=0,
    )
    assert output.steering.gradient_norms.shape[2] == (wanted.layers or 2)
    chosen = steering_settings(model, {"b": lambda *_: words}, BenchmarkConfig(attributes=("b",), preset=preset))
    assert chosen == {"b": wanted}


@pytest.mark.parametrize(
    ("preset", "line"), [("paper", "preset paper,"), ("fast", "preset fast,"), (None, "preset fast,")]
)
def test_the_command_line_names_the_preset(command, preset, line):
    given = ["--preset", preset] if preset else []
    code, _, err = command("generate", "The lake", "--bag", "space", "--max-new-tokens", "2", "--greedy", *given)
    assert code == 0
    assert f"steering: preset {'paper' if 'paper' in given else 'fast'}, step_size" in err


def test_a_user_who_chose_no_setting_reads_which_one_to_turn(command):
    def said(*given):
        code, _, err = command("generate", "The lake", "--max-new-tokens", "2", "--greedy", *given)
        assert code == 0
        return err.splitlines()

    knob = "to steer more or less: --strength, from 0 (unsteered) to 1"
    settings, advice = said("--bag", "space")[-3:-1]  # then the seed
    assert settings.startswith("steering: preset fast, ")
    assert advice.startswith(knob)
    for chosen in (("--strength", "0.5"), ("--step-size", "2"), ("--preset", "paper")):
        assert knob not in "".join(said("--bag", "space", *chosen))
    assert knob not in "".join(said())  # unsteered


def test_the_command_line_says_where_a_preset_was_not_made_for_the_model(command, gpt2, tokenizer, tmp_path):
    for part in (gpt2, tokenizer):
        part.save_pretrained(tmp_path)
    (tmp_path / "words.txt").write_text("moon\nstar\nsun\n")
    request = ["--bag", tmp_path / "words.txt", "--model", tmp_path, "--device", "cpu", "--greedy"]
    code, _, err = command("generate", "The sea", "--max-new-tokens", "2", *request)
    assert code == 0
    assert "steering: the dial, strength 0.5, num_iterations 1" in err
    request += ["--preset", "fast", "--step-size", "0.4"]
    _, _, err = command("generate", "The sea", "--max-new-tokens", "2", *request)
    assert "steering: preset fast (a general choice; this model has no settings of its own for it), step_size" in err


# --- by the weights' fingerprint ---------------------------------------------------------------------------------


def test_shipped_settings_are_found_wherever_the_weights_lie(embedded, tmp_path):
    for part in embedded:
        part.save_pretrained(tmp_path / "elsewhere")
    model, _ = pplm.load_model(tmp_path / "elsewhere", device="cpu", dtype="bfloat16")
    assert pplm.steering_presets(model) == pplm.steering_presets(embedded[0])
    (tmp_path / "elsewhere" / "steering.json").write_text(json.dumps(OWN))
    model, _ = pplm.load_model(tmp_path / "elsewhere", device="cpu")
    assert pplm.steering_presets(model) == SteeringPresets.of(OWN)


def test_the_same_model_in_other_numbers_takes_them_and_says_so(embedded, command, tmp_path):
    model = rounded(embedded[0])
    for part in (model, embedded[1]):
        part.save_pretrained(tmp_path / "rounded")
    loaded, _ = pplm.load_model(tmp_path / "rounded", device="cpu")
    presets = pplm.steering_presets(loaded)
    assert presets.fast == pplm.steering_presets(embedded[0]).fast
    request = ["generate", "The sea", "--model", tmp_path / "rounded", "--greedy", "--max-new-tokens", "2"]
    code, _, err = command(*request, "--bag", "space")
    assert code == 0
    assert (
        "steering: preset fast (made on gpt2-mini, used for rounded, which has the same norms and biases but other "
        in err
    )


def test_a_model_that_was_trained_further_is_another_model(embedded):
    tuned = copy.deepcopy(embedded[0])
    for parameter in tuned.parameters():
        parameter.data *= 1.01
    assert relation(identity(embedded[0]), tuned) is None
    assert shipped_presets(tuned) == SteeringPresets()


def test_a_model_without_vectors_has_no_relatives():
    assert relation({"name": "other", "weights": {"float32": "0"}, "vectors": {}}, torch_model(bias=False)) is None
    bare = identity(torch_model(bias=False))
    assert relation({**bare, "weights": {}}, torch_model(bias=False)) is None


# --- steering.json ----------------------------------------------------------------------------------------------


def test_the_embedded_model_has_settings_of_its_own_for_every_kind(embedded):
    presets = pplm.steering_presets(embedded[0])
    assert set(presets.paper) == set(KINDS) - {"avoidance"}
    assert set(presets.fast) == set(KINDS)
    for attributes in ([BAG], [HEAD], [BAG, HEAD], [Avoid(BAG)], [BAG, Avoid(BAG)]):
        assert presets.choose(attributes).own
        assert presets.choose(attributes, "paper").own


def test_a_file_of_kinds_alone_is_the_paper_s(tmp_path):
    kinds = {"bag_of_words": {"step_size": 0.5}, "mixture": {"gm_scale": 0.9}}
    (tmp_path / "steering.json").write_text(json.dumps(kinds))
    assert read_presets(tmp_path) == SteeringPresets(paper=kinds)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"paper": {}, "slow": {}}, "presets hold 'slow'; a preset must be one of paper, fast"),
        ({"fast": {"head": {}}}, "'head'; a kind must be one of bag_of_words, avoidance, discriminator, mixture"),
        ({"paper": {"avoidance": {}}}, "'avoidance'; a kind must be one of bag_of_words, discriminator, mixture"),
        ({"head": {}}, "'head'; a kind must be one of bag_of_words, discriminator, mixture"),
        ({"fast": {"mixture": {"step_size": -1}}}, "step_size must be finite and at least 0"),
        ({"fast": {"mixture": {"stepsize": 1}}}, "is no table of settings in JSON"),
        ({"fast": 3}, "preset 'fast' must be a table of settings by kind; got 3"),
    ],
)
def test_a_file_that_names_what_there_is_not_is_refused(tmp_path, table, words):
    (tmp_path / "steering.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=words):
        read_presets(tmp_path)


def test_the_presets_hold_fields_of_the_settings_alone():
    names = {field.name for field in dataclasses.fields(SteeringConfig)}
    for table in (PAPER_PRESETS, FAST_PRESETS):
        for kind in table.values():
            assert set(kind) <= names
