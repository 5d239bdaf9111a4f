"""How certain a number is: what an interval promises, and how often it keeps that."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pplm.comparison.bootstrap import PromptBootstrap, _reach

NUMBERS = st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 10)), min_size=1, max_size=8)


def interval(above, below, **options):
    bootstrap = PromptBootstrap(len(above), **options)
    return bootstrap.interval(bootstrap.ratios(above, below))


def percentiles(values, prompts):
    """The middle 95% of the redrawn values, which was the interval before."""
    drawn = values[1 + prompts :]
    return np.quantile(drawn[~np.isnan(drawn)], [0.025, 0.975], method="nearest")


@given(NUMBERS)
def test_an_interval_of_a_ratio_lies_between_the_least_and_the_greatest_prompt(pairs):
    above, below = zip(*pairs, strict=True)
    low, high = interval(above, below, replicates=200)
    singles = [a / b for a, b in pairs]
    assert min(singles) - 1e-9 <= low <= high <= max(singles) + 1e-9


@given(st.floats(0, 10), st.floats(0.1, 10), st.integers(1, 6))
def test_prompts_that_are_all_alike_leave_no_doubt(above, below, prompts):
    low, high = interval([above] * prompts, [below] * prompts, replicates=100)
    assert (low, high) == pytest.approx((above / below, above / below))


VALUES = st.floats(-1e300, 1e300) | st.sampled_from([math.inf, math.nan])


@given(st.lists(VALUES, min_size=14, max_size=14))
def test_no_values_however_large_or_odd_are_too_much(values):
    low, high = PromptBootstrap(3, replicates=10).interval(np.array(values))
    assert low <= high or (math.isnan(low) and all(map(math.isnan, values[4:])))


def test_an_interval_narrows_with_prompts_and_holds_the_mean_s_normal_interval():
    generator = np.random.default_rng(0)
    values = generator.normal(5, 1, 400)
    widths = []
    for size in (25, 400):
        low, high = interval(values[:size], np.ones(size))
        half = 1.96 * values[:size].std() / size**0.5
        assert (low, high) == pytest.approx((values[:size].mean() - half, values[:size].mean() + half), abs=half / 4)
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_nothing_to_divide_by_has_no_interval():
    assert all(map(math.isnan, interval([0, 0], [0, 0], replicates=20)))


def test_infinite_values_do_not_spoil_an_interval():
    bootstrap = PromptBootstrap(2, replicates=100)
    assert bootstrap.interval(np.array([1.0] * 53 + [math.inf] * 50)) == (1.0, math.inf)


def test_an_interval_is_student_s_where_the_values_are_symmetric():
    for prompts, students in ((5, 2.776), (15, 2.145), (20, 2.093), (100, 1.984)):
        assert _reach(prompts) == pytest.approx(students * math.sqrt(prompts / (prompts - 1)), rel=0.01)
    values = np.tile([-1.0, 1.0], 10) * np.linspace(1, 2, 20)
    low, high = interval(values - values.mean(), np.ones(20), replicates=20000)
    half = _reach(20) * values.std() / 20**0.5
    assert (low, high) == pytest.approx((-half, half), rel=0.06)


def test_an_interval_reaches_further_where_rare_words_come_in_bursts():
    found = [0, 0, 1, 0, 0, 0, 6, 0, 2, 0, 0, 1, 0, 0, 0, 1, 0, 0, 2, 0]
    bootstrap = PromptBootstrap(len(found))
    values = bootstrap.ratios(found, [1000] * len(found))
    low, high = bootstrap.interval(values)
    before = percentiles(values, len(found))
    assert values[0] == pytest.approx(0.00065)
    assert low > before[0]
    assert high - values[0] > 1.3 * (before[1] - values[0])


def coverage(prompts, texts, rate, times, spread, burst, size=600):
    """How often intervals hold the rate of rare words, that of `times` as many, and the ratio of both.

    Words come at a rate that differs by prompt and by text (gamma, of these shapes: the smaller the more). Returns
    {name: (coverage of our interval, of the percentile interval)}.
    """
    generator = np.random.default_rng(0)
    bootstrap = PromptBootstrap(prompts)

    def draw(mean):
        words = generator.integers(35, 55, (size, prompts, texts))
        differ = generator.gamma(spread, 1 / spread, (size, prompts, 1))
        differ = differ * generator.gamma(burst, 1 / burst, (size, prompts, texts))
        return generator.poisson(words * mean * differ).sum(2), words.sum(2)

    plain, steered = draw(rate), draw(rate * times)
    held = {"unsteered": [], "steered": [], "times": []}
    for row in range(size):
        a, b = (bootstrap.ratios(*(part[row] for part in world)) for world in (plain, steered))
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, values, truth in (
                ("unsteered", a, rate),
                ("steered", b, rate * times),
                ("times", b / a, times),
            ):
                if math.isfinite(values[0]):
                    ends = bootstrap.interval(values), percentiles(values, prompts)
                    held[name].append([low <= truth <= high for low, high in ends])
    return {name: tuple(np.mean(found, axis=0)) for name, found in held.items()}


def test_intervals_hold_the_true_value_about_as_often_as_they_promise():
    found = coverage(20, 10, 0.004, 4, 5, 5, size=150)
    assert all(ours >= max(0.92, before) for ours, before in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "texts", "rate", "times", "spread", "burst", "least"),
    [
        (20, 10, 0.004, 4, 5, 5, 0.93),
        (15, 10, 0.004, 4, 5, 5, 0.93),
        (20, 7, 0.002, 4, 2, 1, 0.92),
        (20, 28, 0.001, 5, 2, 0.5, 0.92),
        (15, 10, 0.004, 4, 2, 1, 0.91),
        (40, 10, 0.004, 4, 2, 1, 0.93),
        (20, 10, 0.004, 4, 1, 0.3, 0.88),  # single texts hold most of the words
    ],
)
def test_coverage_of_small_ratios(prompts, texts, rate, times, spread, burst, least):
    found = coverage(prompts, texts, rate, times, spread, burst, size=2000)
    assert all(ours >= max(least, before + 0.005) for ours, before in found.values()), found
