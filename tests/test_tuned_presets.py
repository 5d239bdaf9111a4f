"""Where tuned settings are kept, and who finds them: the next command, for the same weights wherever they lie."""

import copy
import json

import pytest
import torch

import pplm
from attribute_models import BagOfWords, Discriminator
from pplm import SteeringConfig, SteeringPresets
from pplm.models.fingerprint import identity
from pplm.models.presets_file import save_preset, tuned_presets, with_tuned
from pplm.models.resources import cache_folder
from pplm.presets import request_kind

BAG = BagOfWords.from_token_ids([1, 2], 10)
HEAD = Discriminator.from_weights(torch.eye(2), torch.zeros(2), ["a", "b"], "a")
TUNED = {"strength": 0.4, "layers": 2, "num_iterations": 1}
FAST = ["--minutes", 1, "--texts", 2, "--new-tokens", 3, "--repeat-budget", 1]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "presets"


@pytest.fixture
def folder(gpt2, tokenizer, tmp_path):
    """The tiny model's folder, whose weights have no shipped settings."""
    for part in (gpt2, tokenizer):
        part.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def words(tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nstar\n")
    (tmp_path / "prompts.txt").write_text("The sea\nA cat\n")
    return tmp_path / "sky.txt", tmp_path / "prompts.txt"


@pytest.fixture
def tune(command, folder, words):
    def call(*arguments):
        return command("tune", "--model", folder, "--bag", words[0], "--prompts", words[1], *FAST, *arguments)

    return call


@pytest.fixture
def steering_line(command, folder, words):
    """Return what `generate` reports of its settings."""

    def call(*arguments):
        code, _, err = command("generate", "The sea", "--model", folder, "--bag", words[0], "--max-new-tokens", 2,
                               "--greedy", *arguments)  # fmt: skip
        assert code == 0, err
        return next(line for line in err.splitlines() if line.startswith("steering:"))

    return call


# --- the command ------------------------------------------------------------------------------------------------


def test_words_given_on_the_command_line_can_be_tuned_for(command, folder, words, cache):
    code, _, err = command("tune", "--model", folder, "--words", "moon,star", "--prompts", words[1], *FAST)
    assert code == 0, err
    assert list(cache.glob("*.json"))


def test_generate_uses_what_tune_has_found_and_reports_so(tune, steering_line, cache, folder):
    assert steering_line().startswith("steering: the dial, strength 0.5, num_iterations 1, ")
    code, out, err = tune("--strength", 0.3)
    assert code == 0, err
    assert out.splitlines()[0].startswith("| candidate ")
    assert "| unsteered " in out
    (path,) = cache.glob("*.json")
    assert f"written to {path}" in err
    table = json.loads(path.read_text())
    found = table["fast"]["bag_of_words"]
    assert set(table) == {"made_on", "fast"}
    assert table["made_on"]["name"] == "tiny"
    assert steering_line().startswith(
        f"steering: the dial, tuned for this model, strength 0.3, num_iterations {found['num_iterations']}, "
    )
    assert f"layers {found['layers']}" in steering_line()
    assert "tuned" in steering_line("--strength", 0.7)
    model, _ = pplm.load_model(folder, device="cpu")
    assert pplm.steering_presets(model).fast == {"bag_of_words": found}


def test_no_save_only_prints(tune, cache, folder):
    code, out, err = tune("--no-save")
    assert code == 0, err
    assert "Chosen for bag_of_words: strength 0.5, " in out
    assert "written" not in err
    assert not cache.exists()


def test_output_writes_beside_the_weights_and_says_where_others_come_first(tune, steering_line, folder, cache):
    (folder / "steering.json").write_text(json.dumps({"discriminator": {"step_size": 0.2}}))
    code, _, err = tune("--output", folder)
    assert code == 0, err
    assert "come first" not in err
    table = json.loads((folder / "steering.json").read_text())
    assert table["paper"] == {"discriminator": {"step_size": 0.2}}
    assert set(table["fast"]["bag_of_words"]) == {"strength", "layers", "num_iterations"}
    assert "tuned for this model" in steering_line()
    assert not list(cache.glob("*"))
    tune()
    assert f"come first: delete {next(cache.glob('*.json'))}" in tune("--output", folder)[2]


def test_what_breaks_the_budget_is_not_saved(tune, cache, monkeypatch):
    monkeypatch.setattr("pplm.tuning.choice._fluent", lambda *_: False)
    code, out, err = tune()
    assert code == 2
    assert "| candidate " in out
    assert err.splitlines()[-1].startswith("Error: nothing is saved: no strength that was tried stays within")
    assert not list(cache.glob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "tune needs an attribute; add --bag space"),
        (("--bag", "space", "--no-save", "--output", "."), "--no-save keeps nothing; leave it out, or --output ."),
        (("--bag", "space", "--strength", "0"), "strength must be above 0 and at most 1; got 0.0"),
        (("--bag", "space", "--budget", "0.5"), "budget must be at least 1"),
        (("--bag", "space", "--prompts", "nowhere.txt"), "prompts nowhere.txt cannot be read"),
        (("--bag", "space", "--output", "nowhere"), "folder nowhere does not exist; name the model's folder"),
    ],
)
def test_refused_requests_are_one_line(command, arguments, message):
    code, out, err = command("tune", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_drawn(tune, cache, monkeypatch):
    monkeypatch.setattr("pplm.tuning.tune", lambda *_, **__: pytest.fail("texts were drawn"))
    cache.parent.mkdir()
    cache.write_text("a file in the folder's place")
    code, _, err = tune()
    assert code == 2
    assert "cannot be written" in err
    assert "set PPLM_CACHE" in err


# --- files ------------------------------------------------------------------------------------------------------


def test_kinds_tuned_one_after_another_are_kept_together(gpt2, folder, cache):
    save_preset(gpt2, "bag_of_words", TUNED)
    save_preset(gpt2, "mixture", {**TUNED, "layers": 1})
    save_preset(gpt2, "bag_of_words", {**TUNED, "strength": 0.6})
    assert len(list(cache.glob("*.json"))) == 1
    presets = pplm.steering_presets(pplm.load_model(folder, device="cpu")[0])
    assert presets.fast == {"bag_of_words": {**TUNED, "strength": 0.6}, "mixture": {**TUNED, "layers": 1}}
    mixed = SteeringConfig.for_attributes([BAG, HEAD], presets=presets)
    assert (mixed.strength, mixed.layers) == (0.4, 1)
    assert SteeringConfig.for_attributes([HEAD], presets=presets) == SteeringConfig.for_attributes([HEAD], strength=0.5)


def test_tuned_settings_come_before_shipped_ones_kind_by_kind(embedded):
    model = copy.copy(embedded[0])
    shipped = pplm.steering_presets(model)
    save_preset(model, "bag_of_words", TUNED)
    found = pplm.steering_presets(pplm.load_model(device="cpu")[0])
    assert found.fast == {**shipped.fast, "bag_of_words": TUNED}
    assert found.paper == shipped.paper
    config = SteeringConfig.for_attributes([BAG], presets=found)
    assert config == SteeringConfig.for_attributes([BAG], **TUNED)
    assert SteeringConfig.for_attributes([HEAD], presets=found) == SteeringConfig.for_attributes(
        [HEAD], presets=shipped
    )


def test_other_weights_do_not_find_them_and_other_number_formats_do(gpt2, tokenizer, folder, tmp_path):
    save_preset(gpt2, "bag_of_words", TUNED)
    for dtype in ("float32", "bfloat16"):
        assert tuned_presets(pplm.load_model(folder, device="cpu", dtype=dtype)[0]).fast == {"bag_of_words": TUNED}
    other = copy.deepcopy(gpt2)
    for parameter in other.parameters():
        parameter.data *= 1.01
    assert tuned_presets(other) == SteeringPresets()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a table of settings in JSON"),
        ("[]", "does not name the weights that its settings are for"),
        ('{"fast": {}}', "does not name the weights that its settings are for"),
        ('{"made_on": {"name": "x", "weights": {}}, "fast": {"bags": {}}}', "'bags'; a kind must be one of"),
        ('{"made_on": {"name": "x", "weights": {}}, "fast": {"mixture": {"strength": 3}}}', "strength must be"),
    ],
)
def test_a_damaged_file_is_refused_by_name_with_the_remedy(command, folder, cache, content, message):
    cache.mkdir(parents=True)
    (cache / "mine.json").write_text(content)
    code, _, err = command("generate", "The sea", "--model", folder)
    assert code == 2
    assert err.startswith(f"Error: {cache / 'mine.json'}")
    assert message in err
    assert "repair or remove it" in err


def test_a_file_is_written_whole_or_not_at_all(gpt2, cache, monkeypatch):
    path = save_preset(gpt2, "bag_of_words", TUNED)
    before = path.read_bytes()
    monkeypatch.setattr("pplm.models.presets_file.json.dumps", lambda *_, **__: "\udcff")
    with pytest.raises(UnicodeEncodeError):
        save_preset(gpt2, "mixture", TUNED)
    assert [file.read_bytes() for file in cache.iterdir()] == [before]


def test_the_cache_may_be_named_by_the_desktop_s_variable(gpt2, folder, tmp_path, monkeypatch):
    monkeypatch.delenv("PPLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    path = save_preset(gpt2, "bag_of_words", TUNED)
    assert path.parent == tmp_path / "xdg" / "pplm" / "presets" == cache_folder("presets")
    assert tuned_presets(pplm.load_model(folder, device="cpu")[0]).fast


# --- which kind -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ([], "bag_of_words"),
        (["bag_of_words"], "bag_of_words"),
        (["avoidance"], "avoidance"),
        (["avoidance", "avoidance"], "avoidance"),
        (["bag_of_words", "avoidance"], "bag_of_words"),
        (["discriminator"], "discriminator"),
        (["discriminator", "avoidance"], "mixture"),
        (["bag_of_words", "discriminator"], "mixture"),
    ],
)
def test_what_is_tuned_is_what_the_same_attributes_choose(kinds, kind):
    attributes = [type("Model", (), {"steering_kind": kind, "loss": None})() for kind in kinds]
    assert request_kind(attributes) == kind
    own = {"paper": {"bag_of_words": {"step_size": 1.0}}, "fast": {kind: TUNED}}
    chosen = SteeringPresets.of(own).choose(attributes)
    assert str(chosen) == "the dial, tuned for this model"
    assert chosen.settings["strength"] == 0.4


def test_a_note_on_shipped_settings_does_not_hold_for_tuned_ones(gpt2):
    made = SteeringPresets(fast={"bag_of_words": {"layers": 1}, "discriminator": TUNED}, made_on="made on big")
    presets = with_tuned(made, {"fast": {"bag_of_words": TUNED}})
    assert str(presets.choose([BAG])) == "the dial, tuned for this model"
    assert str(presets.choose([HEAD])) == "the dial, tuned for this model (made on big)"
    assert "made on big" in str(made.choose([BAG]))


def test_saved_settings_hold_for_the_model_at_hand(gpt2, tokenizer, tmp_path):
    model = copy.deepcopy(gpt2)
    bag = BagOfWords.from_words(["moon", "star"], tokenizer, name="sky")
    settings = pplm.TuneSettings(prompts=("The sea", "A cat"), texts=2, new_tokens=2, num_iterations=(1,))
    found = pplm.tune(model, tokenizer, [bag], settings)
    other = copy.deepcopy(gpt2)
    found.save(other, tmp_path)
    assert pplm.steering_presets(other).fast == {}  # the file is for those who load it
    path = found.save(model)
    assert json.loads(path.read_text())["made_on"] == identity(model)
    assert pplm.steering_presets(model).fast == found.presets["fast"]
