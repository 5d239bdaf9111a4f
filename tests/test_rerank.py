"""Best of r candidates: what is drawn, what is dropped, what is kept."""

import math

import pytest
import torch
from helpers import STRONG, ids_of
from hypothesis import given
from hypothesis import strategies as st

import pplm
from attribute_models import Avoid, BagOfWords
from pplm import InputError, Rerank, SteeringConfig
from pplm.interface import bind_attributes, weigh_attributes
from pplm.rerank import in_spreads, mean_distinct
from pplm.text_scores import TextScore, score_texts

PROMPTS = ["The sea is", " moon"]
PLAIN = SteeringConfig(step_size=0)


def best(texts, values, *, weights=(1.0,), **settings):
    """Choose among texts by the values of one attribute model."""
    return Rerank(len(texts), **settings).best(texts, [TextScore((value,), 0.0) for value in values], weights)


def run(gpt2, tokenizer, words, prompts=PROMPTS, **arguments):
    defaults = {"steering": STRONG, "max_new_tokens": 6, "seed": 3, "do_sample": True, "attributes": [words]}
    return pplm.generate(gpt2, tokenizer, prompts, **{**defaults, **arguments})


# --- drawing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, None])
def test_one_candidate_is_plain_generation_token_for_token(gpt2, tokenizer, words, seed):
    torch.manual_seed(0)
    plain = run(gpt2, tokenizer, words, num_samples=2, seed=seed)
    torch.manual_seed(0)
    alone = run(gpt2, tokenizer, words, num_samples=2, seed=seed, rerank=Rerank(1, min_distinct=0))
    assert [out.token_ids for out in alone] == [out.token_ids for out in plain]
    assert [out.candidate for out in alone] == [0] * 4
    assert all(out.score is not None for out in alone)
    assert all(out.score is None for out in plain)


def test_the_best_of_many_scores_at_least_as_high_as_the_first_and_often_higher(gpt2, tokenizer, words):
    first = run(gpt2, tokenizer, words, num_samples=3, rerank=Rerank(1, min_distinct=0))
    best = run(gpt2, tokenizer, words, num_samples=3, rerank=Rerank(8, min_distinct=0))
    assert [(out.prompt_index, out.sample) for out in best] == [(p, s) for p in range(2) for s in range(3)]
    assert all(b.score >= a.score - 1e-5 for a, b in zip(first, best, strict=True))
    assert sum(b.score > a.score + 1e-3 for a, b in zip(first, best, strict=True)) >= 3
    assert len({out.candidate for out in best}) > 1


def test_neither_batch_size_nor_more_samples_change_what_is_kept(gpt2, tokenizer, words):
    arguments = {"rerank": Rerank(4, min_distinct=0)}
    wanted = run(gpt2, tokenizer, words, num_samples=2, **arguments)
    for size in (1, 3, 5):
        found = run(gpt2, tokenizer, words, num_samples=2, max_batch_size=size, **arguments)
        assert [(o.token_ids, o.candidate) for o in found] == [(o.token_ids, o.candidate) for o in wanted]
        assert [o.score for o in found] == pytest.approx([o.score for o in wanted], abs=1e-4)
    more = run(gpt2, tokenizer, words, num_samples=3, **arguments)
    assert [o.token_ids for o in more if o.sample < 2] == [o.token_ids for o in wanted]


def test_candidates_of_all_samples_are_different_streams(gpt2, tokenizer, words):
    class Latest:
        """Remembers how many different texts it was asked about, and likes none better."""

        def __init__(self):
            self.seen = set()

        def loss(self, step):
            return -step.log_probs[:, 0]

        def text_loss(self, text):
            self.seen |= {tuple(row.tolist()) for row in text.input_ids}
            return torch.zeros(len(text.input_ids))

    judge = Latest()
    kept = run(
        gpt2, tokenizer, words, "The sea", attributes=[judge], steering=PLAIN, num_samples=3, rerank=Rerank(5, 0)
    )
    assert len(judge.seen) == 15
    assert [out.candidate for out in kept] == [0, 0, 0]  # of equals the first


def test_unsteered_candidates_can_be_ranked_too(gpt2, tokenizer, words):
    best = run(gpt2, tokenizer, words, steering=PLAIN, rerank=Rerank(8, min_distinct=0))
    first = run(gpt2, tokenizer, words, steering=PLAIN, rerank=Rerank(1, min_distinct=0))
    assert not any(out.steered for out in best)
    assert sum(out.score for out in best) > sum(out.score for out in first)


def test_prompts_that_are_shared_out_with_their_numbers_give_the_same_texts(gpt2, tokenizer, words):
    prompts = [*PROMPTS, "Cats and a star"]
    wanted = run(gpt2, tokenizer, words, prompts, num_samples=2)
    last = run(gpt2, tokenizer, words, prompts[2], prompt_indices=[2], num_samples=2)
    assert [out.token_ids for out in last] == [out.token_ids for out in wanted[4:]]
    assert [(out.prompt_index, out.sample) for out in last] == [(2, 0), (2, 1)]
    for numbers in ([0], [1, 1, 2], [-1, 0, 1]):
        with pytest.raises(InputError, match="prompt_indices must be 3 different numbers"):
            run(gpt2, tokenizer, words, prompts, prompt_indices=numbers)


# --- dropping --------------------------------------------------------------------------------------------------


@given(st.text("abc", min_size=1, max_size=3), st.integers(3, 30))
def test_a_repeated_word_has_the_lowest_variety_there_is(word, times):
    expected = (1 / times + 1 / (times - 1) + 1 / (times - 2)) / 3
    assert mean_distinct(" ".join([word] * times)) == pytest.approx(expected)


@given(st.lists(st.sampled_from("abcdef"), max_size=12))
def test_variety_is_a_share_and_1_where_no_word_comes_twice(words):
    value = mean_distinct(" ".join(words))
    assert 0 <= value <= 1
    assert (value == 1) == (bool(words) and len(set(words)) == len(words))


def test_variety_counted_by_hand():
    assert mean_distinct("a b a b") == pytest.approx((2 / 4 + 2 / 3 + 2 / 2) / 3)
    assert mean_distinct("one") == 1
    assert mean_distinct(" \n") == 0


def test_a_repetitive_candidate_falls_however_likely_it_is():
    choice = best(["star star star star", "the star fell", "a dog ran"], [9.0, 2.0, 1.0], min_distinct=0.6)
    assert (choice.index, choice.all_repetitive) == (1, False)
    assert best(["star star star star", "the star fell"], [9.0, 2.0], min_distinct=0).index == 0


def test_a_candidate_exactly_as_varied_as_is_asked_for_stays():
    for least, varied, other in ((1.0, "the star fell", "a a a"), (0.0, "", "the star fell")):
        choice = best([varied, other], [2.0, 1.0], min_distinct=least)
        assert (choice.index, choice.all_repetitive) == (0, False)


def test_where_all_candidates_fall_the_best_is_kept(caplog, gpt2, tokenizer, words):
    choice = best(["a a a a", "b b b b"], [1.0, 2.0], min_distinct=0.9)
    assert (choice.index, choice.all_repetitive) == (1, True)
    run(gpt2, tokenizer, words, rerank=Rerank(2, min_distinct=0.0))
    run(gpt2, tokenizer, words, " sea" * 20, steering=PLAIN, rerank=Rerank(2, min_distinct=0.3))  # a prompt may repeat
    assert caplog.text == ""

    class Loops:
        """Makes every text one repeated word."""

        def loss(self, step):
            return -step.log_probs[:, tokenizer.encode(" sun")[0]]

        def text_loss(self, text):
            return torch.arange(len(text.input_ids), 0, -1).float()

    strong = SteeringConfig(step_size=5.0, gamma=1.0, norm_rule="current", num_iterations=8, gm_scale=1.0)
    kept = run(gpt2, tokenizer, words, attributes=[Loops()], steering=strong, top_k=1, rerank=Rerank(3, 1.0))
    assert "2 of 2 texts repeat themselves, and so did all their candidates (min_distinct 1)" in caplog.text
    assert [out.candidate for out in kept] == [2, 2]


# --- ranking ---------------------------------------------------------------------------------------------------


def test_the_token_that_ends_a_text_is_no_part_of_what_is_ranked(gpt2, tokenizer, words):
    wish = BagOfWords.from_token_ids([tokenizer.eos_token_id], len(tokenizer))
    strong = SteeringConfig(step_size=2.0, gamma=1.0, norm_rule="current", num_iterations=5, gm_scale=1.0)
    outs = run(gpt2, tokenizer, wish, ["a", "the sea"], steering=strong, max_new_tokens=20, rerank=Rerank(1, 0))
    ended = [out for out in outs if out.token_ids[-1] == tokenizer.eos_token_id]
    assert ended
    for out in ended:
        prompt = ids_of(tokenizer, out.prompt)
        bound = bind_attributes(weigh_attributes([wish]), gpt2)
        ((wanted,),) = score_texts(gpt2, [bound], [prompt], [out.token_ids[:-1]])
        assert out.score == pytest.approx(wanted.total([1.0]), abs=1e-4)


# --- several attribute models, and fluency -----------------------------------------------------------------------

THREE = ["a star fell", "the sea is deep", "cats ran over"]
NUMBERS = st.floats(-50, 50).map(lambda value: round(value, 3))


def kept(columns, weights, fluency=0.0, texts=THREE):
    """Return which text is kept, given each attribute model's values and, in the last column, the fluency."""
    scores = [TextScore(row[:-1], row[-1]) for row in zip(*columns, strict=True)]
    return Rerank(len(texts), 0.0, fluency).best(texts, scores, weights).index


def test_an_attribute_whose_losses_differ_more_does_not_decide_alone():
    # In nats the sums are -20, -10.5 and -1: the first attribute model would decide.
    assert kept([(-20.0, -10.0, 0.0), (0.0, -0.5, -1.0), (0, 0, 0)], (1.0, 1.0)) == 2  # equal places: most nats
    assert kept([(-20.0, -4.0, 0.0), (-0.6, 0.0, -1.0), (0, 0, 0)], (1.0, 1.0)) == 1


def test_a_larger_weight_has_a_larger_say_and_none_has_no_say():
    columns = [(-20.0, -10.0, 0.0), (0.0, -0.5, -1.0), (0, 0, 0)]
    assert kept(columns, (1.0, 1.5)) == 0
    assert kept(columns, (1.5, 1.0)) == 2
    assert kept([(-math.inf, -10.0, 0.0), (-0.5, 0.0, -1.0), (0, 0, 0)], (0.0, 1.0)) == 1


@given(st.lists(NUMBERS, min_size=3, max_size=3))
def test_one_attribute_without_fluency_keeps_the_likeliest_text(values):
    assert kept([values, (-5.0, -1.0, -3.0)], (0.7,)) == max(range(3), key=lambda n: values[n])


@given(
    st.lists(
        st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=3, unique_by=(lambda pair: pair[0], lambda pair: pair[1])
    ),
    st.floats(1, 100),
    NUMBERS,
)
def test_another_unit_or_zero_point_of_one_attribute_changes_nothing(pairs, unit, zero):
    one, other = zip(*pairs, strict=True)
    places = sorted(a + b for a, b in zip(in_spreads(one), in_spreads(other), strict=True))
    if min(max(one) - min(one), max(other) - min(other)) < 1 or places[2] - places[1] < 1e-3:
        return  # spreads too small to count, or texts too close to tell apart
    moved = [unit * value + zero for value in one]
    assert kept([moved, other, (0, 0, 0)], (1.0, 1.0)) == kept([one, other, (0, 0, 0)], (1.0, 1.0))


@given(NUMBERS, NUMBERS, st.floats(0.02, 20), st.floats(0.02, 20))
def test_between_two_texts_on_which_the_attributes_disagree_the_most_nats_decide(one, other, more, less):
    if abs(more - less) > 0.01:
        columns = [(one, one + more), (other, other - less), (0, 0)]
        assert kept(columns, (1.0, 1.0), texts=THREE[:2]) == (more > less)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=3, max_size=3), st.sampled_from([1e-9, 0.1, 1e9]))
def test_weights_count_in_proportion_alone(rows, factor):
    columns = list(zip(*rows, strict=True))
    assert kept(columns, (factor, 2 * factor), 0.5 * factor) == kept(columns, (1.0, 2.0), 0.5)


def test_of_the_same_text_twice_the_first_is_kept_though_the_second_scored_a_little_higher():
    assert best(["the star fell"] * 2, [-1.0000024, -1.0]).index == 0


def test_differences_too_small_to_matter_are_not_blown_up():
    assert kept([(0.0, 1e-5, 2e-5), (-1.0, -2.0, -2.0), (0, 0, 0)], (1.0, 1.0)) == 0


def test_a_text_that_cannot_be_judged_is_kept_only_if_there_is_no_other():
    never, nothing = -math.inf, math.nan
    assert kept([(never, -9.0, -9.0), (0.0, -7.0, -8.0), (0, 0, 0)], (1.0, 1.0)) == 1
    assert kept([(nothing, -9.0, -8.0), (0.0, -9.0, -9.0), (0, 0, 0)], (1.0, 1.0)) == 2
    assert kept([(never,) * 3, (-3.0, -1.0, -2.0), (0, 0, 0)], (1.0, 1.0)) == 1  # the other attribute decides
    assert kept([(never,) * 3, (never,) * 3], (1.0,), fluency=1.0) == 0


def test_fluency_weighs_against_the_attributes():
    columns = [(-1.0, -2.0, -3.0), (-6.0, -3.0, -2.0)]
    assert [kept(columns, (1.0,), fluency) for fluency in (0, 1.0, 5.0)] == [0, 1, 2]


def test_fluent_candidates_are_kept_where_that_is_asked_for(gpt2, tokenizer, words):
    bound = bind_attributes(weigh_attributes([words]), gpt2)

    def fluency(weight):
        texts = run(gpt2, tokenizer, words, num_samples=4, rerank=Rerank(8, 0.0, weight))
        rows = [ids_of(tokenizer, text.prompt) for text in texts], [text.token_ids for text in texts]
        return sum(text.fluency for text in score_texts(gpt2, [bound], *rows)[0])

    assert fluency(0.0) < fluency(1.0) < fluency(100.0)


# --- what is refused -------------------------------------------------------------------------------------------


class Shouting:
    def loss(self, step):
        return -step.log_probs[:, 0]


def test_an_attribute_model_that_cannot_read_texts_is_refused_by_name(gpt2, tokenizer, words):
    for attribute, name in ((Shouting(), "Shouting"), (Avoid(Shouting()), "avoid Shouting")):
        with pytest.raises(InputError, match=rf"'{name}' has no method text_loss\(text\)"):
            run(gpt2, tokenizer, words, attributes=[words, attribute], rerank=Rerank(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attributes": []}, "rerank needs an attribute model"),
        ({"do_sample": False}, "2 greedy candidates would all be the same"),
        ({"streamer": object()}, "^streamer would show candidates that are not kept"),
    ],
)
def test_requests_that_mean_nothing_are_refused(gpt2, tokenizer, words, arguments, message):
    with pytest.raises(InputError, match=message):
        run(gpt2, tokenizer, words, rerank=Rerank(2), **arguments)


@pytest.mark.parametrize("result", [torch.zeros(3), torch.tensor([math.nan])])
def test_a_wrong_text_loss_is_refused(gpt2, tokenizer, words, result):
    class Wrong(Shouting):
        def text_loss(self, _):
            return result

    with pytest.raises(InputError, match=r"'Wrong': text_loss\(text\) must return one value per text, shape \(1,\)"):
        run(gpt2, tokenizer, words, "The sea", attributes=[Wrong()], steering=PLAIN, rerank=Rerank(1))


@pytest.mark.parametrize("candidates", [0, -1, 1.5, True])
def test_wrong_numbers_of_candidates_are_refused(candidates):
    with pytest.raises(InputError, match="candidates must be a whole number of at least 1"):
        Rerank(candidates)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, "0.8", True, None])
def test_a_least_variety_that_is_no_share_is_refused(share):
    with pytest.raises(InputError, match=r"min_distinct must be (between 0 and 1|of type float); got"):
        Rerank(min_distinct=share)


def test_fluency_among_one_candidate_is_refused():
    with pytest.raises(InputError, match=r"fluency 0\.5 chooses among candidates; candidates must then be at least 2"):
        Rerank(1, fluency=0.5)


@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan, "0.5", True, None])
def test_a_fluency_that_is_no_weight_is_refused(weight):
    with pytest.raises(InputError, match=r"fluency must be (finite and at least 0|of type float); got"):
        Rerank(fluency=weight)
