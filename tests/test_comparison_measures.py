"""Methods, measures and intervals, on texts written by hand."""

import math
from dataclasses import replace

import pytest

from attribute_models import read_word_list
from pplm import InputError, Rerank
from pplm.cli.evaluation_sets import build_attributes
from pplm.comparison.attributes import Attribute, attribute_set
from pplm.comparison.measures import expected_measure, main_measure, measure_methods, measure_texts
from pplm.comparison.methods import Chosen, arms_of, check_methods, choose, every_candidate
from pplm.comparison.pool import Arm, PoolPlan, Pools
from pplm.comparison.samples import Sample
from pplm.evaluation import HeadJudge, JudgedText, dist_n
from pplm.evaluation.scoring import score
from pplm.text_scores import TextScore


class Judge:
    """Gives numbers by completion, and remembers what it has read."""

    def __init__(self, columns, numbers):
        self.name, self.columns, self.numbers, self.read = "judge", columns, numbers, []

    def judge(self, texts):
        self.read += texts
        return [tuple(self.numbers[text.completion.strip()]) for text in texts]


def chosen(method, completion, *, attribute="space", prompt=0, pool=0, seconds=1.0, tokens=10):
    return Chosen(method, attribute, Sample("arm", prompt, pool, 0, "So", f" {completion}", tokens, 0.1), seconds)


def rows_of(texts, wanted=None, judges=()):
    measured = measure_texts(
        texts, wanted or {"space": Attribute(bag_words={"star"}, held_out_words={"orbit"})}, judges
    )
    return {(row.method, row.attribute): row for row in measure_methods(measured, replicates=200)}


# --- the four methods ------------------------------------------------------------------------------------------


def pools(texts_by_arm, scores):
    samples = {}
    for arm, texts in texts_by_arm.items():
        for number, text in enumerate(texts):
            own = {name: TextScore((values[number],), -1.0 * number) for name, values in scores[arm].items()}
            pool, place = divmod(number, 3)
            samples[arm, 0, pool, place] = Sample(arm, 0, pool, place, "So", text, 5, 2.0, own)
    return Pools(samples, PoolPlan(("So",), samples=3, pools=len(texts_by_arm["unsteered"]) // 3))


POOLS = pools(
    {
        "unsteered": ["first plain text", "star star star star star", "a likely plain text"],
        "steered to space": ["first of space", "second of space", "third of space"],
        "steered to legal": ["first of law", "second of law", "third of law"],
    },
    {
        "unsteered": {"space": [-3.0, -0.1, -1.0], "legal": [-1.0, -0.1, -2.0]},
        "steered to space": {"space": [-3.0, -1.0, -2.0]},
        "steered to legal": {"legal": [-3.0, -2.0, -1.0]},
    },
)


def test_the_four_methods_take_the_first_and_the_best_of_the_same_pools():
    found = choose(POOLS, ["B", "BR", "BC", "BCR"], {"space": [1.0], "legal": [1.0]}, Rerank(3, min_distinct=0.5))
    texts = {(item.method, item.attribute): item.sample.completion for item in found}
    assert texts == {
        ("B", "space"): "first plain text",
        ("B", "legal"): "first plain text",
        ("BR", "space"): "a likely plain text",  # the likeliest repeats itself
        ("BR", "legal"): "first plain text",
        ("BC", "space"): "first of space",
        ("BC", "legal"): "first of law",
        ("BCR", "space"): "second of space",
        ("BCR", "legal"): "third of law",
    }
    assert {item.method: item.seconds for item in found} == {"B": 2, "BR": 6, "BC": 2, "BCR": 6}
    assert not any(item.all_repetitive for item in found)
    strict = choose(POOLS, ["BR"], {"space": [1.0]}, Rerank(3, min_distinct=1.0))
    assert [item.all_repetitive for item in strict] == [False]
    loops = pools({"unsteered": ["no no no"] * 3}, {"unsteered": {"space": [-3.0, -1.0, -2.0]}})
    assert [item.all_repetitive for item in choose(loops, ["B", "BR"], {"space": [1.0]}, Rerank(3))] == [False, True]


def test_what_a_model_has_read_counts_for_all_candidates_and_is_unknown_where_one_was_not_recorded():
    for recorded, wanted in (([4.0, 5.0, 6.0], {"B": 4.0, "BR": 15.0}), ([4.0, 5.0, None], {"B": 4.0, "BR": None})):
        texts = [replace(POOLS.samples["unsteered", 0, 0, n], readings=own) for n, own in enumerate(recorded)]
        own = Pools({text.key: text for text in texts}, POOLS.plan)
        found = choose(own, ["B", "BR"], {"space": [1.0]}, Rerank(3))
        assert {item.method: item.readings for item in found} == wanted


def test_the_candidates_fluency_counts_where_it_is_asked_for():
    # The later a text, the less fluent (`pools`).
    for fluency, wanted in ((0.0, "third of law"), (100.0, "first of law")):
        found = choose(POOLS, ["BC", "BCR"], {"legal": [1.0]}, Rerank(3, fluency=fluency))
        assert [item.sample.completion for item in found] == ["first of law", wanted]


def test_every_pool_gives_each_method_a_text():
    plain = ["one", "two", "three", "four", "five", "six"]
    own = {"unsteered": {"space": [-3.0, -1.0, -2.0, -3.0, -2.0, -1.0]}}
    found = choose(pools({"unsteered": plain}, own), ["B", "BR"], {"space": [1.0]}, Rerank(3, min_distinct=0))
    assert [(item.method, item.sample.pool, item.sample.completion) for item in found] == [
        ("B", 0, "one"), ("B", 1, "four"), ("BR", 0, "two"), ("BR", 1, "six"),
    ]  # fmt: skip
    assert [
        item.sample.completion for item in every_candidate(pools({"unsteered": plain}, own), ["B"], ["space"])
    ] == plain


def test_methods_are_put_in_the_paper_s_order_and_unknown_ones_refused():
    assert check_methods(["BCR", "B", "BC", "B"]) == ("B", "BC", "BCR")
    for names in (["B", "CB"], []):
        with pytest.raises(InputError, match="unknown method"):
            check_methods(names)


def test_only_the_arms_that_are_needed_are_drawn():
    steered = [Arm("steered to space", "space")]
    assert [arm.name for arm in arms_of(["B", "BR"], steered)] == ["unsteered"]
    assert [arm.name for arm in arms_of(["BCR"], steered)] == ["steered to space"]
    assert [arm.name for arm in arms_of(["B", "BC"], steered)] == ["unsteered", "steered to space"]


# --- measures --------------------------------------------------------------------------------------------------


def test_words_are_counted_by_hand_and_in_completions_alone():
    row = rows_of([chosen("B", "the Star, the star and an orbit"), chosen("B", "no no no", prompt=1)])["B", ""]
    assert row.values["bag_share"] == 2 / 10
    assert row.values["held_out_share"] == 1 / 10
    assert row.values["held_out_texts"] == 1 / 2
    assert row.values["repeats"] == pytest.approx(2 / 8)
    assert row.values["repeated_4grams"] == 0
    assert row.values["seconds_per_token"] == 2 / 20
    assert row.texts == 2
    low, high = row.intervals["held_out_texts"]
    assert 0 <= low <= 0.5 <= high <= 1
    assert "dist_1" not in row.intervals


def test_phrases_that_recur_are_counted_over_the_runs_of_four_words_of_all_texts():
    texts = ["one two three four one two three four", "the star and an orbit"]
    row = rows_of([chosen("B", text, prompt=prompt) for prompt, text in enumerate(texts)])["B", ""]
    assert row.values["repeated_4grams"] == pytest.approx(1 / (5 + 2))


@pytest.mark.parametrize(("bag", "held_out"), [("list", "other"), ("other", "list")])
def test_phrases_are_counted_as_score_counts_them(tokenizer, gpt2, tmp_path, bag, held_out):
    (tmp_path / "list.txt").write_text("black hole\nstar\n")
    (tmp_path / "other.txt").write_text("moon\n")
    (tmp_path / "mine.json").write_text(f'{{"sky": {{"bag": "{bag}.txt", "held_out": "{held_out}.txt"}}}}')
    sky = build_attributes(attribute_set(str(tmp_path / "mine.json")), gpt2, tokenizer)["sky"]
    text = "a black cat dug a hole, a Black Hole"
    row = rows_of([chosen("B", text, attribute="sky")], {"sky": sky})["B", ""]
    scored = score([JudgedText(text)], {}, {"list": read_word_list(tmp_path / "list.txt")})
    found = {bag: row.values["bag_share"], held_out: row.values["held_out_share"]}
    assert found == {"list": scored.word_shares["list"], "other": 0}
    assert found["list"] == 2 / 9


def test_words_that_could_never_be_found_are_refused_before_any_text():
    with pytest.raises(InputError, match="'!', which has no letter or digit"):
        Attribute(bag_words={"!"})


def test_words_of_the_bag_are_refused_as_held_out_ones():
    with pytest.raises(
        InputError, match=r"held_out_words has words of the bag that steers \(1: Star\); leave them out"
    ):
        Attribute(bag_words={"star", "moon"}, held_out_words={"Star", "orbit"})


def test_perplexity_pools_tokens_and_is_told_relative_to_b():
    judge = Judge(("nll", "tokens"), {"a": (2.0, 2.0), "b": (6.0, 2.0), "c": (8.0, 4.0)})
    texts = [chosen("B", "a"), chosen("B", "b", prompt=1), chosen("BC", "c"), chosen("BC", "c", prompt=1)]
    rows = rows_of(texts, judges=[judge])
    assert rows["B", ""].values["perplexity"] == pytest.approx(math.exp(8 / 4))
    assert rows["BC", ""].values["perplexity"] == pytest.approx(math.exp(2))
    times, (low, high) = rows["BC", ""].relative["perplexity"]
    assert times == pytest.approx(1)
    assert (low, high) == pytest.approx((math.exp(2 - 3), math.exp(2 - 1)))


def test_without_a_judge_there_is_no_perplexity():
    row = rows_of([chosen("B", "a"), chosen("BC", "b")])["BC", ""]
    assert math.isnan(row.values["perplexity"])
    assert "perplexity" not in row.relative


def test_sentiment_is_right_on_the_wanted_side_of_0_and_a_text_without_words_is_not():
    judge = Judge(("vader",), {"good": (0.5,), "bad": (-0.4,), "flat": (0.0,), "": (math.nan,)})
    wanted = {"positive": Attribute(sentiment="positive"), "negative": Attribute(sentiment="negative")}
    texts = [
        chosen("B", word, attribute=attribute, prompt=prompt)
        for attribute in wanted
        for prompt, word in enumerate(["good", "bad", "flat", ""])
    ]
    rows = rows_of(texts, wanted, [judge])
    assert rows["B", "positive"].values["right"] == rows["B", "negative"].values["right"] == 1 / 4
    assert rows["B", "positive"].values["vader"] == pytest.approx(0.1 / 3)
    assert rows["B", "negative"].values["vader"] == pytest.approx(-0.1 / 3)
    assert rows["B", ""].values["vader"] == pytest.approx(0)


def test_each_attribute_has_its_own_held_out_head():
    def head(share):
        return HeadJudge(lambda texts: [share] * len(texts), "head", "head")

    wanted = {"a": Attribute(head=head(0.25)), "b": Attribute(head=head(0.75)), "c": Attribute(bag_words={"star"})}
    rows = rows_of([chosen("BC", "star", attribute=name) for name in wanted], wanted)
    assert [rows["BC", name].values["head"] for name in "ab"] == [0.25, 0.75]
    assert math.isnan(rows["BC", "c"].values["head"])
    assert rows["BC", ""].values["head"] == 0.5


def test_dist_is_pooled_over_an_attribute_and_averaged_over_attributes():
    texts = {"space": ["a star fell", "a star rose"], "legal": ["law and law", "so it is"]}
    items = [
        chosen("B", text, attribute=name, prompt=prompt)
        for name, own in texts.items()
        for prompt, text in enumerate(own)
    ]
    rows = rows_of(items, {name: Attribute(bag_words={"star"}) for name in texts})
    for n in (1, 2, 3):
        expected = [dist_n(own, n) for own in texts.values()]
        assert [rows["B", name].values[f"dist_{n}"] for name in texts] == expected
        assert rows["B", ""].values[f"dist_{n}"] == pytest.approx(sum(expected) / 2)


def test_dist_does_not_fall_with_the_number_of_pools():
    same = rows_of([chosen("B", "a star fell", pool=pool) for pool in range(2)])
    assert [same["B", ""].values[f"dist_{n}"] for n in (1, 2, 3)] == [1.0, 1.0, 1.0]
    other = rows_of([chosen("B", "a a a"), chosen("B", "a star fell", pool=1)])
    assert other["B", ""].values["dist_1"] == pytest.approx((1 / 3 + 1) / 2)


def test_a_judge_reads_no_text_twice():
    judge = Judge(("similarity",), {"one": (0.1,), "two": (0.2,)})
    texts = [chosen("B", "one"), chosen("BR", "one"), chosen("BC", "two"), chosen("BCR", "two")]
    rows = rows_of(texts, judges=[judge])
    assert len(judge.read) == 2
    assert {text.attribute for text in judge.read} == {"space"}
    assert [rows[method, ""].values["similarity"] for method in ("B", "BR", "BC", "BCR")] == [0.1, 0.1, 0.2, 0.2]


def test_the_measure_that_is_no_part_of_steering_comes_first():
    bag, held = Attribute(bag_words={"star"}), Attribute(bag_words={"star"}, held_out_words={"orbit"})
    feeling = Attribute(sentiment="positive")
    vader, near = Judge(("vader",), {"a": (1.0,)}), Judge(("similarity",), {"a": (1.0,)})
    for wanted, judges, name in (
        ([held], [near], "held_out_share"),
        ([held, bag], [], "bag_share"),
        ([held, bag], [near], "similarity"),
        ([feeling], [vader], "right"),
        ([feeling], [], None),
        ([bag, feeling], [vader], None),
    ):
        by_name = {str(number): item for number, item in enumerate(wanted)}
        assert expected_measure(by_name, judges) == name
        rows = rows_of([chosen("B", "a", attribute=key) for key in by_name], by_name, judges)
        assert main_measure(list(rows.values())) == name
