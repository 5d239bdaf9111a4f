"""Every way to steer takes a preset, and the command line names it."""

import copy

import pytest
from preset_cases import OWN, settings

import pplm
from pplm import SteeringPresets
from pplm.attached import Attached, attach
from pplm.benchmark import BenchmarkConfig, steering_settings


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
    assert f"steering: {line} step_size" in err


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
