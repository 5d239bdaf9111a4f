"""`tune`: which candidate wins, when it stops, and what it costs in fluency; texts are made up, but for the last."""

import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import pplm
from attribute_models import Avoid, BagOfWords
from pplm import InputError, SteeringConfig, TuneSettings
from pplm.comparison.budget import Budget
from pplm.tuning import tuning_report
from pplm.tuning.settings import OPENINGS

SETTINGS = TuneSettings(layers=(1, 2), num_iterations=(1,), prompts=tuple("abcdefgh"), texts=40, new_tokens=4)
UNSTEERED = 0.001
GENERIC = (0.15, 1)


def text(number, level, *, name="bag", words="one two three four", kl=0.1):
    return pplm.Generation(
        prompt="a", completion=words, text="a " + words, prompt_index=number, sample=0, seed=0, token_ids=[1, 2],
        steered=True, attribute_losses={}, attribute_loss=[], kl=[], final_kl=[kl, kl], levels={name: level},
    )  # fmt: skip


@pytest.fixture
def written(monkeypatch):
    """Let texts have the levels of a table by (layers, num_iterations); return what was drawn, and a knob for words."""
    drawn, table, words = [], {}, {}

    def generate(model, tokenizer, prompts, *, attributes, steering, prompt_indices, **given):
        chosen = (steering.layers, steering.num_iterations)
        unsteered = steering.strength < 0.01
        drawn.append(None if unsteered else chosen)
        levels = dict.fromkeys((a.name for a in attributes), UNSTEERED) if unsteered else table[chosen]
        noise = [math.exp(0.3 * np.random.default_rng(number).normal()) for number in prompt_indices]
        own = "one two three four" if unsteered else words.get("at", lambda _: "a b c d")(steering.strength)
        found = []
        for number, factor in zip(prompt_indices, noise, strict=True):
            level = levels(number) if callable(levels) else levels
            shown = level if isinstance(level, dict) else {"bag": level}
            found.append(replace(text(number, 0.0, words=own), levels={n: v * factor for n, v in shown.items()}))
        return found

    monkeypatch.setattr("pplm.tuning.texts.generate", generate)
    return drawn, table, words


def tune(model, tokenizer, bag, written, levels, settings=SETTINGS, attributes=None, **given):
    written[1].update(levels)
    return pplm.tune(model, tokenizer, attributes or [bag], settings, **given)


@pytest.fixture
def bag(tokenizer):
    return BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="bag")


def rows(found):
    return {row.name: row for row in found.rows}


def test_the_better_of_two_candidates_wins_and_is_not_undecided(gpt2, tokenizer, bag, written):
    for levels, layers in (({GENERIC: 0.01, (2, 1): 0.03}, 2), ({GENERIC: 0.03, (2, 1): 0.01}, 0.15)):
        found = tune(gpt2, tokenizer, bag, written, levels)
        assert found.settings == {"strength": 0.5, "layers": layers, "num_iterations": 1}
        assert (found.kind, found.undecided, found.within_budget) == ("bag_of_words", False, True)
        assert "is the best" in found.reasons[0]
    better, worse = rows(found)["layers 0.15, 1 iteration (generic)"], rows(found)["layers 2, 1 iteration"]
    assert better.against is None
    assert worse.against[0] == pytest.approx(1 / 3)
    assert worse.outcome == "worse, round 2"
    low, high = better.levels["bag"][1]
    assert low < better.levels["bag"][0] < high


def test_texts_are_drawn_as_the_settings_say_and_no_two_rounds_alike(gpt2, tokenizer, bag, written, monkeypatch):
    asked, fake = [], pplm.tuning.texts.generate
    monkeypatch.setattr("pplm.tuning.texts.generate", lambda *given, **how: asked.append(how) or fake(*given, **how))
    settings = replace(SETTINGS, seed=7, top_k=3, max_batch_size=5)
    tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01, (2, 1): 0.03}, settings)
    for name, value in {"seed": 7, "top_k": 3, "max_batch_size": 5, "max_new_tokens": 4, "do_sample": True}.items():
        assert {how[name] for how in asked} == {value}
    assert [[*how["prompt_indices"]] for how in asked[:2]] == [[*range(8)], [*range(8, 16)]]


def test_the_report_has_each_number_in_its_column(gpt2, tokenizer, bag, written):
    written[2]["at"] = lambda _: "a a c d"
    found = tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01, (2, 1): 0.03}, replace(SETTINGS, budget=Budget(2, 1)))
    head, _, *lines = tuning_report(replace(found, seconds=90.0)).splitlines()[:5]
    names, *cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines))
    plain, _, best = (dict(zip(names, own, strict=True)) for own in cells)
    assert (plain["candidate"], plain["repeats"], plain["against the best"]) == ("unsteered", "0.00%", "")
    assert (best["texts"], best["KL per token"], best["repeats"]) == ("16", "0.100", "33.33%")
    assert best["level of bag"].startswith(f"{found.rows[2].levels['bag'][0]:.3g} (")
    assert "(1.5 min)" in tuning_report(replace(found, seconds=90.0))


def test_candidates_that_cannot_be_told_apart_are_undecided_and_the_cheapest_is_taken(gpt2, tokenizer, bag, written):
    # The second is better for half of the prompts, and worse for the others.
    found = tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01, (2, 1): lambda n: 0.018 if n % 2 else 0.003})
    assert found.undecided
    assert found.settings["layers"] == 0.15
    assert found.reasons[0].startswith("Undecided: layers 0.15, 1 iteration (generic) cannot be told apart from")
    assert "undecided, chosen" in tuning_report(found)
    assert {row.texts for row in found.rows} == {40}


def test_the_generic_choice_and_as_many_layers_of_another_name_are_one_candidate(gpt2, tokenizer, bag, written):
    found = tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01}, replace(SETTINGS, layers=(1, 0.15, 0.3, 0.5)))
    assert [row.name for row in found.rows] == ["unsteered", "layers 0.15, 1 iteration (generic)"]
    assert "only candidate" in found.reasons[0]


def test_a_candidate_that_is_worse_is_drawn_no_longer_and_one_left_ends_the_comparison(gpt2, tokenizer, bag, written):
    levels = {GENERIC: 0.01, (2, 1): 0.03}
    tune(gpt2, tokenizer, bag, written, levels)
    assert written[0] == [None, None, GENERIC, GENERIC, (2, 1), (2, 1)]


def test_more_iterations_are_tried_with_the_best_layers_alone(gpt2, tokenizer, bag, written):
    levels = {GENERIC: 0.01, (2, 1): 0.03, (2, 3): 0.09}
    found = tune(gpt2, tokenizer, bag, written, levels, replace(SETTINGS, num_iterations=(1, 3)))
    assert found.settings == {"strength": 0.5, "layers": 2, "num_iterations": 3}
    assert (0.15, 3) not in written[0]


def test_what_there_is_no_time_for_is_named(gpt2, tokenizer, bag, written):
    found = tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01}, replace(SETTINGS, minutes=1e-6))
    assert found.settings["layers"] == 0.15
    assert "Not tried: layers 2, 1 iteration" in found.reasons[1]


@pytest.mark.parametrize(("minutes", "tried"), [(8, False), (9, True)])
def test_the_comparison_takes_seven_tenths_of_the_time(gpt2, tokenizer, bag, written, monkeypatch, minutes, tried):
    now, fake = [0.0], pplm.tuning.texts.generate

    def a_minute(*given, **how):
        now[0] += 60
        return fake(*given, **how)

    monkeypatch.setattr("pplm.tuning.texts.generate", a_minute)
    for module in ("race", "texts"):
        monkeypatch.setattr(f"pplm.tuning.{module}.time", SimpleNamespace(monotonic=lambda: now[0]))
    levels = {GENERIC: 0.01, (2, 1): 0.03}
    found = tune(gpt2, tokenizer, bag, written, levels, replace(SETTINGS, minutes=minutes))
    # Two rounds of unsteered texts and two of each candidate: the second one's would end after 6 minutes.
    assert ((2, 1) in written[0]) is tried
    assert any(f"{minutes} minutes do not allow more. Not tried: layers 2" in why for why in found.reasons) is not tried


def test_of_what_is_avoided_less_is_better_and_each_of_several_counts_by_its_ratio(gpt2, tokenizer, bag, written):
    sea = BagOfWords.from_words(["sea"], tokenizer, name="sea")
    avoided = tune(gpt2, tokenizer, bag, written, {GENERIC: {"avoid sea": 0.01}, (2, 1): {"avoid sea": 0.03}},
                   attributes=[Avoid(sea)])  # fmt: skip
    assert (avoided.kind, avoided.settings["layers"]) == ("avoidance", 0.15)
    several = tune(gpt2, tokenizer, bag, written,
                   {GENERIC: {"bag": 0.5, "sea": 0.001}, (2, 1): {"bag": 0.4, "sea": 0.002}},
                   attributes=[bag, sea])  # fmt: skip
    assert (several.kind, several.settings["layers"]) == ("bag_of_words", 2)
    other = tune(gpt2, tokenizer, bag, written, {}, attributes=[bag, (sea, 0)])
    assert (other.settings["layers"], set(other.rows[0].levels)) == (0.15, {"bag"})
    other = rows(several)["layers 0.15, 1 iteration (generic)"].against[0]
    assert other == pytest.approx(math.sqrt(0.5 / 0.4 * 0.001 / 0.002))


# --- fluency ----------------------------------------------------------------------------------------------------


def test_repeats_beyond_the_budget_lower_the_strength_until_they_hold(gpt2, tokenizer, bag, written):
    written[2]["at"] = lambda strength: "a a a a" if strength > 0.3 else "a b c d"
    found = tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01, (2, 1): 0.03})
    assert found.settings == {"strength": 0.281, "layers": 2, "num_iterations": 1}
    assert found.within_budget
    assert "lowered from 0.5 to 0.281" in found.reasons[-1]
    assert [row.outcome for row in found.rows][-2:] == ["strength lowered", "strength lowered, taken"]
    loose = replace(SETTINGS, budget=Budget(repeats=1.0))
    assert tune(gpt2, tokenizer, bag, written, {}, loose).settings["strength"] == 0.5


def test_where_no_strength_is_fluent_nothing_can_be_saved(gpt2, tokenizer, bag, written):
    written[2]["at"] = lambda _: "a a a a"
    found = tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01, (2, 1): 0.03})
    assert not found.within_budget
    assert "No strength down to 0.0501 keeps" in found.reasons[-1]
    hurried = tune(gpt2, tokenizer, bag, written, {}, replace(SETTINGS, minutes=1e-6))
    assert "No strength down to 0.5 keeps" in hurried.reasons[-1]  # there was no time for a lower one
    with pytest.raises(InputError, match="break the budget of fluency"):
        found.save(gpt2)


class Judge:
    """Finds words of one letter likely or not."""

    name = "judge"

    def __init__(self, nll):
        self.nll = nll

    def judge(self, texts):
        return [(self.nll if " a b" in each.text else 1.0, 1.0) for each in texts]


@pytest.mark.parametrize(("nll", "strength"), [(1.2, 0.5), (1.3, None)])
def test_a_judge_s_perplexity_counts_against_the_budget(gpt2, tokenizer, bag, written, nll, strength):
    found = tune(gpt2, tokenizer, bag, written, {GENERIC: 0.01, (2, 1): 0.03}, judge=Judge(nll))
    assert found.within_budget == (strength is not None)
    assert "perplexity at most 1.25 times theirs" in found.reasons[-1]
    assert f"| {math.exp(nll):.1f} " in tuning_report(found)


def test_the_tuned_model_is_no_judge_of_itself(gpt2, tokenizer, bag):
    from pplm.evaluation import PerplexityJudge

    with pytest.raises(InputError, match="is the steered model itself"):
        pplm.tune(gpt2, tokenizer, [bag], SETTINGS, judge=PerplexityJudge(gpt2, tokenizer, "tiny"))


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strength": 0}, "strength must be above 0 and at most 1; got 0"),
        ({"strength": 1.5}, "strength must be above 0"),
        ({"minutes": 0}, "minutes must be above 0 and finite; got 0"),
        ({"texts": 3}, "texts is 3, less than one for each of 20 prompts"),
        ({"prompts": ("a",)}, "prompts must be at least two"),
        ({"prompts": ("a", "a")}, "1 of them different"),
        ({"prompts": "a"}, "prompts must be a list"),
        ({"layers": ()}, "layers must be a list of at least one"),
        ({"layers": (-1,)}, "layers must be a whole number"),
        ({"num_iterations": (0,)}, "num_iterations must be a whole number of at least 1"),
        ({"new_tokens": 0}, "new_tokens must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_settings_outside_their_range_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        TuneSettings(**given)


def test_attributes_without_a_weight_and_too_many_layers_are_refused(gpt2, tokenizer, bag):
    for attributes in ([], [(bag, 0)]):
        with pytest.raises(InputError, match="at least one whose weight is above 0"):
            pplm.tune(gpt2, tokenizer, attributes)
    with pytest.raises(InputError, match="layers is 3, the model has 2"):
        pplm.tune(gpt2, tokenizer, [bag], replace(SETTINGS, layers=(3,), new_tokens=1))


def test_the_openings_are_not_the_prompts_of_reports():
    from pplm.models.resources import data_path

    others = {line.strip() for path in data_path("prompts").glob("*.txt") for line in path.read_text().splitlines()}
    assert not others & set(OPENINGS)
    assert len(OPENINGS) == 20


# --- real texts -------------------------------------------------------------------------------------------------

REAL = TuneSettings(prompts=("The sea", "A cat", "One"), texts=3, new_tokens=4, num_iterations=(1,), layers=(1, 2))


def test_texts_of_a_model_give_the_same_choice_twice_and_the_numbers_of_generate(gpt2, tokenizer, bag):
    one, other = (pplm.tune(gpt2, tokenizer, [bag], REAL) for _ in range(2))
    same = {"seconds_per_token": 0.0, "perplexity": 0.0}
    assert [replace(row, **same) for row in one.rows] == [replace(row, **same) for row in other.rows]
    assert (one.settings, one.undecided) == (other.settings, other.undecided)
    row = rows(one)["layers 2, 1 iteration"]
    config = SteeringConfig.for_attributes([bag], strength=0.5, layers=2, num_iterations=1)
    texts = [
        text for start in range(0, row.texts, 3)
        for text in pplm.generate(gpt2, tokenizer, list(REAL.prompts), attributes=[bag], steering=config, seed=0,
                                  prompt_indices=range(start, start + 3), max_new_tokens=4, do_sample=True, top_k=10)
    ]  # fmt: skip
    assert row.levels["bag"][0] == pytest.approx(sum(text.levels["bag"] for text in texts) / len(texts), rel=1e-5)
    spent = [value for text in texts for value in text.final_kl]
    assert row.final_kl == pytest.approx(sum(spent) / len(spent), rel=1e-5)


def test_unsteered_rows_are_of_unsteered_texts(gpt2, tokenizer, bag):
    seen = []
    found = pplm.tune(gpt2, tokenizer, [bag], REAL, on_progress=lambda *news: seen.append(news))
    plain = found.rows[0]
    assert plain.final_kl < 1e-6
    assert 0 < plain.levels["bag"][0] < found.rows[1].levels["bag"][0]
    assert json.dumps(found.presets) == json.dumps({"fast": {"bag_of_words": dict(found.settings)}})
    assert all(0 < done <= total for done, total, _ in seen)
    assert re.fullmatch(r"unsteered, 3 texts, \d+\.\d of 8 minutes", seen[0][2])
