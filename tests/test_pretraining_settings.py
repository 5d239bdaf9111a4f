"""The settings of the base model's training: what is refused, and why."""

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pplm import InputError
from pplm.pretraining import Architecture, BaseModelRequest, TrainingSettings, schedule

shares = st.floats(0, 1)


def test_the_defaults_are_the_recipe_that_the_embedded_model_began_with():
    shape, recipe = Architecture(), TrainingSettings(minutes=98)
    assert (shape.num_layers, shape.width, shape.num_heads, shape.num_positions, shape.vocab_size) == (
        6, 320, 5, 512, 12288,
    )  # fmt: skip
    assert (recipe.muon_lr, recipe.adamw_lr, recipe.warmup_steps, recipe.plateau, recipe.final_lr) == (
        0.02, 0.001, 60, 0.45, 0.02,
    )  # fmt: skip
    assert (recipe.tokens_per_step, recipe.late_tokens_per_step, recipe.block_length) == (4096, 8192, 256)


@pytest.mark.parametrize("budget", [{}, {"minutes": 1.0, "steps": 1}])
def test_exactly_one_budget_is_given(budget):
    with pytest.raises(InputError, match="either minutes or steps"):
        TrainingSettings(**budget)


NUMBERS = [f.name for f in fields(TrainingSettings) if f.name != "precision"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", True])
def test_settings_that_mean_nothing_are_refused_by_name(name, value):
    budget = {"steps": 1} if name != "steps" else {}
    with pytest.raises(InputError, match=f"^{name} must be"):
        TrainingSettings(**{**budget, name: value})


@pytest.mark.parametrize("name", [f.name for f in fields(Architecture)])
@pytest.mark.parametrize("value", [0, 1.5, None])
def test_shapes_that_mean_nothing_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name} must be"):
        Architecture(**{name: value})


def test_unknown_formats_and_widths_that_heads_do_not_divide_are_refused():
    with pytest.raises(InputError, match="precision must be one of auto, float32, bfloat16; got 'float16'"):
        TrainingSettings(steps=1, precision="float16")
    with pytest.raises(InputError, match=r"width must be a multiple of num_heads \(5\); got 32"):
        Architecture(width=32)


def test_every_setting_explains_itself():
    for field in [*fields(TrainingSettings), *fields(Architecture)]:
        assert len(field.metadata["help"]) > 15, field.name


def test_blocks_that_would_leave_text_unread_and_batches_below_a_context_are_refused():
    with pytest.raises(InputError, match="block_length must divide the context of 512; got 300"):
        TrainingSettings(steps=1, block_length=300).check_context(512)
    for name in ("tokens_per_step", "late_tokens_per_step", "micro_batch_tokens"):
        with pytest.raises(InputError, match=f"^{name} must be at least the context of 512 tokens.*; got 511"):
            TrainingSettings(steps=1, **{name: 511}).check_context(512)
        TrainingSettings(steps=1, **{name: 512}).check_context(512)
    for length in (1, 128, 512, 700):
        TrainingSettings(steps=1, block_length=length).check_context(512)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"sources": ()}, "no source of text"),
        ({"sources": "text.txt"}, "sources must be a tuple of names; got 'text.txt'"),
        ({"sources": ("a",), "init": "m", "tokenizer": "t"}, r"init m brings its own; leave out tokenizer \(t\)"),
        ({"sources": ("a",), "init": "m", "embeddings_from": "e"}, r"leave out embeddings_from \(e\)"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(request_, message):
    with pytest.raises(InputError, match=message):
        BaseModelRequest(**request_)


# --- schedule --------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), shares, st.integers(0, 100), shares, shares)
def test_the_learning_rate_is_a_share_of_the_peak(step, done, warmup, plateau, final):
    recipe = TrainingSettings(steps=1, warmup_steps=warmup, plateau=plateau, final_lr=final)
    share = schedule.lr_share(recipe, step=step, done=done)
    assert 0 <= share <= 1 + 1e-9
    if step >= warmup:
        assert share >= final - 1e-9


@given(st.integers(1, 100), st.integers(0, 99))
def test_in_the_warm_up_the_learning_rate_rises_to_the_peak(warmup, step):
    recipe = TrainingSettings(steps=1, warmup_steps=warmup)
    wanted = min(1.0, (step + 1) / warmup)
    assert schedule.lr_share(recipe, step=step, done=0) == pytest.approx(wanted)


@given(shares, shares)
def test_after_the_warm_up_the_learning_rate_never_rises(one, other):
    recipe = TrainingSettings(steps=1, warmup_steps=0)
    first, second = (schedule.lr_share(recipe, step=9, done=done) for done in sorted((one, other)))
    assert second <= first + 1e-12


def test_the_learning_rate_stays_falls_linearly_and_ends_where_it_should():
    recipe = TrainingSettings(steps=1, warmup_steps=0, plateau=0.4, final_lr=0.1)
    found = [schedule.lr_share(recipe, step=0, done=done) for done in (0, 0.4, 0.7, 1)]
    assert found == pytest.approx([1, 1, 0.55, 0.1])


def test_knobs_of_the_schedule_can_be_turned_off():
    flat = TrainingSettings(steps=1, warmup_steps=0, plateau=1.0)
    assert {schedule.lr_share(flat, step=s, done=s / 10) for s in range(11)} == {1.0}
    level = TrainingSettings(steps=1, warmup_steps=0, plateau=0.0, final_lr=1.0)
    assert {schedule.lr_share(level, step=s, done=s / 10) for s in range(11)} == {1.0}


def test_progress_counts_steps_or_minutes_and_stops_at_one():
    by_steps, by_time = TrainingSettings(steps=8), TrainingSettings(minutes=2)
    assert [schedule.progress(by_steps, step=s, seconds=999) for s in (0, 2, 8, 9)] == [0, 0.25, 1, 1]
    assert [schedule.progress(by_time, step=999, seconds=s) for s in (0, 30, 120, 500)] == [0, 0.25, 1, 1]


def test_batches_grow_at_half_time_and_blocks_in_the_last_tenth():
    recipe = TrainingSettings(steps=1, tokens_per_step=1500, late_tokens_per_step=3000, block_length=64)
    spans = [schedule.spans_per_step(recipe, done=done, num_positions=512) for done in (0, 0.49, 0.5, 1)]
    assert spans == [2, 2, 5, 5]
    lengths = [schedule.block_length(recipe, done=done, num_positions=512) for done in (0, 0.89, 0.9, 1)]
    assert lengths == [64, 64, 512, 512]
    assert schedule.block_length(recipe, done=0, num_positions=32) == 32
