"""Rivals in a comparison: drawn from the streams of B, measured beside it, refused where they fit nothing."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import STRONG, decode

import pplm
from attribute_models import BagOfWords
from pplm import InputError
from pplm.comparison import Attribute, ComparisonSettings, PoolPlan, Study, compare
from pplm.comparison.measures import MEASURES, MeasuredText, measure_methods
from pplm.comparison.methods import Chosen
from pplm.comparison.samples import Sample

PROMPTS = ("The sea is", " moon")
PLAN = PoolPlan(PROMPTS, samples=2, new_tokens=16, sampling={"top_k": 8})
EVERY = ("B", "BC", "WD", "FUDGE", "CAA", "PROMPT")


@pytest.fixture
def study(gpt2, tokenizer, head, tmp_path):
    sky = BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="sky")
    means = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(8))
    attributes = {
        "sky": Attribute(models=[sky], bag_words=sky.words, held_out_words={"sea", "cat"}),
        "mood": Attribute(models=[replace(head, class_means=means)], held_out_words={"sea", "cat"}),
    }
    return Study(
        model=gpt2, tokenizer=tokenizer, attributes=attributes, plan=PLAN, output=tmp_path / "run",
        steering={"step_size": STRONG.step_size, "num_iterations": 1},
    )  # fmt: skip


def only(study, *names):
    return replace(study, attributes={name: study.attributes[name] for name in names})


def cells(report, title):
    """Return the rows of the first table behind a heading, as lists of cells."""
    lines = report.split(f"\n{title}\n", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = [line for line in lines[start : start + 40] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_rivals_stand_beside_b_and_bc_and_as_a_dash_where_they_have_no_meaning(study):
    found = compare(study, ComparisonSettings(methods=EVERY))
    assert [row.method for row in found.together] == list(EVERY)
    texts = {(row.method, row.attribute): row.texts for row in found.rows}
    assert [texts[method, ""] for method in EVERY] == [4, 4, 2, 2, 2, 4]
    lacking = {key for key, number in texts.items() if number == 0}
    assert lacking == {("WD", "mood"), ("FUDGE", "sky"), ("CAA", "sky")}
    report = (study.output / "report.md").read_text(encoding="utf-8")
    head, _, *rows = cells(report, "## Each attribute")
    for attribute, method, *values in rows:
        assert (set(values) == {"\N{EN DASH}"}) == ((method, attribute) in lacking), (attribute, method, values)
    assert (
        "WD needs a bag of words, some of which are single tokens, so it has no meaning for mood (\N{EN DASH})"
        in report
    )
    assert {"methods.png", "attributes.png", "metrics.csv", "texts.csv"} <= {p.name for p in study.output.iterdir()}
    assert len(head) == len(rows[0])


def measured(method, attribute, prompt, right):
    """Return a text of which a share is right."""
    sample = Sample("arm", prompt, 0, 0, "The", " sea", 1, 1.0)
    fractions = dict.fromkeys(MEASURES, (0.0, 0.0)) | {"right": (right, 1.0)}
    return MeasuredText(Chosen(method, attribute, sample, 1.0), fractions)


def test_a_rival_is_compared_with_b_s_texts_of_the_attributes_that_it_fits():
    own = [("B", "sky", 0.5), ("B", "mood", 0.1), ("BC", "sky", 0.6), ("BC", "mood", 0.6), ("WD", "sky", 1.0)]
    texts = [measured(method, attribute, prompt, right) for method, attribute, right in own for prompt in range(3)]
    rows = {(row.method, row.attribute): row for row in measure_methods(texts)}
    assert rows["WD", ""].relative["right"][0] == pytest.approx(2)
    assert rows["BC", ""].relative["right"][0] == pytest.approx(2)
    assert rows["WD", "mood"].texts == 0
    assert rows["WD", "mood"].relative == {} or math.isnan(rows["WD", "mood"].relative["right"][0])


def test_the_report_counts_what_a_method_reads(study):
    decode(study.model, [[3, 4], [5]], new=1)  # so that the model has been tried with padding
    found = compare(study, ComparisonSettings(methods=EVERY))
    read = {row.method: row.values["readings_per_token"] for row in found.together}
    assert read["B"] == read["WD"] == read["CAA"] == read["PROMPT"] == 1
    assert read["FUDGE"] == 1 + 8
    assert 2 < read["BC"] < 8
    table = cells((study.output / "report.md").read_text(encoding="utf-8"), "## Cost")
    assert table[0] == ["method", "seconds per token", "readings per token"]
    assert {row[0]: row[2] for row in table[2:]}["FUDGE"] == "9.0"


def test_texts_measured_are_completions_of_the_prompt_without_its_line(study):
    found = compare(only(study, "sky"), ComparisonSettings(methods=("PROMPT",), strengths={"PROMPT": 2}))
    lines = ["About sky:\nAbout sky:\n" + prompt for prompt in PROMPTS]
    wanted = pplm.generate(study.model, study.tokenizer, lines, seed=0, max_new_tokens=16, do_sample=True, top_k=8)
    samples = [text.chosen.sample for text in found.texts]
    assert [sample.text for sample in samples] == [
        prompt + text.completion for prompt, text in zip(PROMPTS, wanted, strict=True)
    ]


def test_rivals_draw_one_text_of_each_pool_from_the_streams_of_b(study):
    study = replace(only(study, "sky"), plan=replace(PLAN, pools=2))
    settings = ComparisonSettings(methods=("B", "BR", "WD"), strengths={"WD": 0})
    found = compare(study, settings)
    drawn = [json.loads(line) for line in (study.output / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    rival = [line for line in drawn if line["arm"] == "WD to sky"]
    assert [(line["prompt_index"], line["pool"], line["sample"]) for line in rival] == [
        (prompt, pool, 0) for pool in range(2) for prompt in range(2)
    ]
    of = {m: [t.chosen.sample.text for t in found.texts if t.chosen.method == m] for m in settings.methods}
    assert of["WD"] == of["B"]


def test_an_interrupted_run_goes_on_and_other_strengths_are_refused(study):
    settings = ComparisonSettings(methods=("WD", "CAA"), strengths={"WD": 4})
    first = compare(study, settings)
    path = study.output / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:20], encoding="utf-8")
    drawn = []
    again = compare(study, settings, on_progress=lambda *numbers: drawn.append(numbers))
    assert drawn[0] == (0, 2)
    assert [text.chosen.sample.text for text in again.texts] == [text.chosen.sample.text for text in first.texts]
    with pytest.raises(InputError, match=r"arms\.WD to sky\.strength was 4\.0, is 5\.0"):
        compare(study, replace(settings, strengths={"WD": 5}))
    with (study.output / "metrics.csv").open(encoding="utf-8") as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"WD", "CAA"}


@pytest.mark.parametrize(
    ("names", "method", "message"),
    [
        (["mood"], "WD", "method WD has no meaning for mood: it needs a bag of words"),
        (["sky"], "FUDGE", "method FUDGE has no meaning for sky: it needs a head"),
        (["sky"], "CAA", "method CAA has no meaning for sky: it needs a head"),
    ],
)
def test_a_rival_without_a_meaning_for_any_attribute_is_refused_by_name(study, names, method, message):
    with pytest.raises(InputError, match=message):
        compare(only(study, *names), ComparisonSettings(methods=("B", method)))
    assert not study.output.exists()


def test_strengths_of_methods_that_are_not_compared_are_refused():
    with pytest.raises(InputError, match=r"strengths has CAA, which is not among the rivals in methods \(WD\)"):
        ComparisonSettings(methods=("B", "WD"), strengths={"CAA": 1})
    with pytest.raises(InputError, match=r"strengths has BC, which is not among the rivals in methods \(none\)"):
        ComparisonSettings(methods=("BC",), strengths={"BC": 1})


def test_prompts_that_fit_only_without_the_line_are_refused_before_anything_is_drawn(study):
    settings = ComparisonSettings(methods=("PROMPT",), strengths={"PROMPT": 9})
    with pytest.raises(InputError, match=r"positions|context|tokens"):
        compare(only(study, "sky"), settings)
    assert not study.output.exists()
