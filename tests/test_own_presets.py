"""A model's own settings: found by its weights' fingerprint, and read from steering.json."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from preset_cases import BAG, HEAD, OWN

import pplm
from attribute_models import Avoid
from pplm import InputError, SteeringPresets
from pplm.models.fingerprint import identity, relation
from pplm.models.presets_file import read_presets, shipped_presets
from pplm.presets import KINDS


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
        ({"fast": {"mixture": {"stepsize": 1}}}, "is not a table of settings in JSON"),
        ({"fast": 3}, "preset 'fast' must be a table of settings by kind; got 3"),
    ],
)
def test_a_file_that_names_what_there_is_not_is_refused(tmp_path, table, words):
    (tmp_path / "steering.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=words):
        read_presets(tmp_path)
