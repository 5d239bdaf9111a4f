"""Whole texts scored: what each attribute model finds, what a mixture adds up to, and how fluent they are."""

import math

import pytest
import torch
from helpers import ids_of

from attribute_models import Avoid, classify_texts
from pplm.interface import bind_attributes, weigh_attributes
from pplm.passes import count_passes
from pplm.text_scores import TextScore, score_texts

TEXTS = [" is a star", " moon moon moon and cats over the long sea", ""]


def score(model, tokenizer, attributes, texts, prompt="The sea"):
    bound = bind_attributes(weigh_attributes(attributes), model)
    completions = [tokenizer(text).input_ids for text in texts]
    weights = [attribute.weight for attribute in bound]
    (found,) = score_texts(model, [bound], [ids_of(tokenizer, prompt)] * len(texts), completions)
    return [text.total(weights) for text in found]


def test_a_bag_s_score_is_the_mean_log_mass_along_the_text(gpt2, tokenizer, words):
    for text, found in zip(TEXTS, score(gpt2, tokenizer, [words], TEXTS), strict=True):
        prompt = ids_of(tokenizer, "The sea")
        ids = torch.tensor([prompt + tokenizer(text).input_ids])
        probabilities = gpt2(input_ids=ids).logits[0].softmax(-1)
        singles = list(words.token_ids)
        masses = [probabilities[n, singles].sum().log().item() for n in range(len(prompt) - 1, ids.shape[1])]
        assert found == pytest.approx(sum(masses) / len(masses), abs=1e-3)


def test_a_head_s_score_is_the_log_probability_of_its_class(gpt2, tokenizer, head):
    texts = ["The sea is a star", "The sea moon and cats"]
    found = score(gpt2, tokenizer, [head], [text.removeprefix("The sea") for text in texts])
    expected = classify_texts(gpt2, tokenizer, head, texts)[:, head.labels.index("b")].log()
    assert found == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_score_is_the_weighted_sum_of_the_attributes(gpt2, tokenizer, words, head):
    sky, taste = (score(gpt2, tokenizer, [attribute], TEXTS) for attribute in (words, head))
    both = score(gpt2, tokenizer, [(words, 0.5), (head, 2.0)], TEXTS)
    assert both == pytest.approx([0.5 * a + 2 * b for a, b in zip(sky, taste, strict=True)], abs=1e-4)
    assert score(gpt2, tokenizer, [(words, 0.0), (head, 2.0)], TEXTS) == pytest.approx([2 * b for b in taste], abs=1e-4)


def test_an_attribute_of_no_weight_does_not_count_even_where_it_finds_a_text_impossible():
    assert TextScore((-math.inf, -1.5), 0.0).total((0.0, 2.0)) == -3


def test_avoiding_scores_the_complement(gpt2, tokenizer, words):
    towards, away = (score(gpt2, tokenizer, [attribute], TEXTS) for attribute in (words, Avoid(words)))
    assert away == pytest.approx([math.log(1 - math.exp(value)) for value in towards], abs=1e-4)


def test_a_text_scores_the_same_alone_and_among_longer_ones(gpt2, tokenizer, words, head):
    together = score(gpt2, tokenizer, [words, head], TEXTS * 4)
    alone = [score(gpt2, tokenizer, [words, head], [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone * 4, abs=1e-4)


def test_a_bag_that_is_credited_nowhere_gives_the_worst_score_and_its_avoidance_the_best(gpt2, tokenizer, words):
    # Never completed by this model, so that nothing is credited anywhere.
    class Never:
        def loss(self, step):
            return step.log_probs.new_full((len(step.log_probs),), torch.inf)

        def text_loss(self, text):
            return torch.full((len(text.input_ids),), torch.inf)

    assert score(gpt2, tokenizer, [Never()], TEXTS[:1]) == [-math.inf]
    assert score(gpt2, tokenizer, [Avoid(Never())], TEXTS[:1]) == [0]
    assert score(gpt2, tokenizer, [(Never(), 0.0), words], TEXTS) == score(gpt2, tokenizer, [words], TEXTS)


def test_fluency_is_the_mean_log_probability_of_the_completion_s_tokens(gpt2, tokenizer, words):
    prompt, bound = ids_of(tokenizer, "The sea"), bind_attributes(weigh_attributes([words]), gpt2)
    completions = [tokenizer(text).input_ids for text in TEXTS]
    (found,) = score_texts(gpt2, [bound], [prompt] * len(TEXTS), completions)
    for completion, text in zip(completions[:2], found, strict=False):
        ids = torch.tensor([prompt + completion])
        log_probs = gpt2(input_ids=ids).logits[0].log_softmax(-1)
        own = [log_probs[n - 1, ids[0, n]].item() for n in range(len(prompt), ids.shape[1])]
        assert text.fluency == pytest.approx(sum(own) / len(own), abs=1e-4)
    assert found[2].fluency == -math.inf  # an empty completion
    (found,) = score_texts(gpt2, [bound], [prompt] * len(TEXTS), completions, fluency=False)
    assert [text.fluency for text in found] == [0, 0, 0]


def test_texts_are_read_once_for_all_mixtures(gpt2, tokenizer, words, head):
    completions = [tokenizer(text).input_ids for text in TEXTS]
    prompts = [ids_of(tokenizer, "The sea")] * len(TEXTS)
    sky, both = (bind_attributes(weigh_attributes(own), gpt2) for own in ([words], [(head, 2.0), (words, 0.0)]))
    with count_passes(gpt2) as passes:
        found = score_texts(gpt2, [sky, both], prompts, completions)
    assert passes.rows == len(TEXTS)
    assert [text.attributes for text in found[0]] == [(value,) for value in score(gpt2, tokenizer, [words], TEXTS)]
    assert [text.attributes[1] for text in found[1]] == [0.0] * 3  # of weight 0: not asked
    assert [text.fluency for text in found[0]] == [text.fluency for text in found[1]]
