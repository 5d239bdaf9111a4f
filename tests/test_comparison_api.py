"""The paper's comparison from Python: settings that check themselves, results as objects, a report in a folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import STRONG

import pplm
from attribute_models import BagOfWords
from pplm import InputError
from pplm.comparison import (
    Attribute,
    Budget,
    ComparisonSettings,
    PoolPlan,
    Study,
    SweepSettings,
    compare,
    sweep,
)
from pplm.comparison.samples import SampleFiles

PLAN = PoolPlan(("The sea is", " moon"), samples=2, new_tokens=6, sampling={"top_k": 20})


@pytest.fixture
def study(gpt2, tokenizer, tmp_path):
    sky = BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="sky")
    attribute = Attribute(models=[sky], bag_words=sky.words, held_out_words={"sea", "cat"})
    strong = {"step_size": STRONG.step_size, "num_iterations": 1}
    return Study(
        model=gpt2, tokenizer=tokenizer, attributes={"sky": attribute}, plan=PLAN, output=tmp_path / "run",
        steering=strong,
    )  # fmt: skip


def test_a_comparison_returns_its_numbers_and_texts_and_writes_the_report(study, gpt2, tokenizer):
    found = compare(study)
    assert [row.method for row in found.together] == ["B", "BR", "BC", "BCR"]
    assert found.main == "held_out_share"
    assert all(0 <= row.values["bag_share"] <= 1 for row in found.rows)
    assert (study.output / "report.md").read_text().startswith(f"# {found.model}: B / BR / BC / BCR")
    steering = pplm.SteeringConfig.for_attributes(study.attributes["sky"].models, **study.steering)
    texts = pplm.generate(
        gpt2, tokenizer, list(PLAN.prompts), attributes=study.attributes["sky"].models, steering=steering, seed=0,
        max_new_tokens=6, do_sample=True, top_k=20,
    )  # fmt: skip
    assert [text.chosen.sample.text for text in found.texts if text.chosen.method == "BC"] == [t.text for t in texts]


@pytest.mark.parametrize("weights", [(1000.0, 1.0), (1.0, 1000.0)])
def test_the_best_candidate_is_chosen_with_the_weights_of_the_mixture(study, tokenizer, weights):
    bags = [*study.attributes["sky"].models, BagOfWords.from_words(["sea", "cat"], tokenizer, name="land")]
    both = replace(study.attributes["sky"], models=list(zip(bags, weights, strict=True)))
    plan = replace(PLAN, samples=6)
    settings = ComparisonSettings(methods=("BR",), min_distinct=0)
    found = compare(replace(study, attributes={"both": both}, plan=plan), settings)
    samples = SampleFiles(study.output).read().values()
    heavier = weights.index(1000.0)
    for text in found.texts:
        own = [sample for sample in samples if sample.prompt_index == text.chosen.sample.prompt_index]
        assert len(own) == 6
        values = [sample.scores["both"].attributes[heavier] for sample in own]
        assert text.chosen.sample.scores["both"].attributes[heavier] == max(values)


def test_numbers_of_numpy_are_kept_as_plain_ones_for_the_report():
    settings = ComparisonSettings(min_distinct=np.float32(0.5), fluency=np.int64(1))
    assert json.dumps([settings.min_distinct, settings.fluency]) == "[0.5, 1.0]"


def test_a_comparison_is_continued_with_the_same_attribute_models_only(study):
    settings = ComparisonSettings(methods=("BC", "B"))
    first = compare(study, settings)
    drawn = []
    again = compare(study, settings, on_progress=lambda *numbers: drawn.append(numbers))
    assert drawn == [(0, 0)]
    assert [text.chosen for text in again.texts] == [text.chosen for text in first.texts]
    sky = study.attributes["sky"]
    for changed in (replace(sky, identity="others"), replace(sky, models=[(sky.models[0], 2.0)], identity=None)):
        with pytest.raises(InputError, match=r"holds texts made with other settings: attributes\.sky"):
            compare(replace(study, attributes={"sky": changed}), settings)


def test_a_sweep_returns_the_best_settings_within_the_budget(study):
    study = replace(study, plan=replace(PLAN, samples=1))
    found = sweep(study, SweepSettings({"step_size": [0.0, 0.3]}, Budget(repeats=1.0)))
    assert [row.method for row in found.together] == ["B", "step_size 0.0", "step_size 0.3"]
    assert found.together[0].values["bag_share"] == found.together[1].values["bag_share"]
    assert found.best[0].base.method == "B"
    assert "## All settings" in (study.output / "report.md").read_text()


def test_a_sweeps_report_counts_the_texts_of_all_pools(study):
    study = replace(study, plan=replace(PLAN, samples=1, pools=2))
    found = sweep(study, SweepSettings({"step_size": [0.3]}))
    assert len(found.texts) == 2 * 2 * len(PLAN.prompts)
    assert "2 texts per prompt, attribute and setting" in (study.output / "report.md").read_text()


@pytest.mark.parametrize(
    ("prompts", "new_tokens", "steering"),
    [((" moon", "sea " * 60), 20, {}), ((" moon", "The sea is"), 50, {"horizon_length": 12})],
    ids=["the longest prompt", "looking ahead"],
)
def test_texts_that_do_not_fit_the_model_are_refused_before_any_is_written(study, prompts, new_tokens, steering):
    plan = replace(PLAN, prompts=prompts, new_tokens=new_tokens)
    with pytest.raises(InputError, match="positions, the model has 64"):
        compare(replace(study, plan=plan, steering={**study.steering, **steering}))
    assert not study.output.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: ComparisonSettings(methods=("B", "X")), "unknown method X"),
        (lambda: ComparisonSettings(min_distinct=2), "min_distinct must be between 0 and 1"),
        (lambda: ComparisonSettings(fluency=-1), "fluency must be finite and at least 0"),
        (lambda: ComparisonSettings(methods=("B", "BC"), fluency=1), "fluency 1 is for BR and BCR"),
        (lambda: ComparisonSettings(methods=("B", "BC"), min_distinct=0.5), "min_distinct 0.5 is for BR and BCR"),
        (lambda: ComparisonSettings().needs(replace(PLAN, samples=1)), "samples must be at least 2 for BR and BCR"),
        (lambda: SweepSettings({}), "vary must list values"),
        (lambda: SweepSettings({"step_size": []}), "vary must list values"),
        (lambda: SweepSettings({"stepsize": [1]}), "vary must list values .*'stepsize'"),
        (lambda: SweepSettings({"gm_scale": [2.0]}), "gm_scale"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        settings()


def test_a_study_without_attributes_or_judged_by_its_own_model_is_refused(study, gpt2, tokenizer):
    from pplm.evaluation import PerplexityJudge

    with pytest.raises(InputError, match="attributes is empty"):
        replace(study, attributes={})
    judge = PerplexityJudge(gpt2, tokenizer, "itself")
    with pytest.raises(InputError, match="is the steered model itself"):
        replace(study, judges=[judge])
    notes = replace(study, judges=[judge], insist_judge=True).notes
    assert sum("is the steered model itself" in note for note in notes) == 1
    assert [note for note in study.notes if note.startswith("Steered with preset fast (a general choice")]
