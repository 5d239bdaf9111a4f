"""Logits processors inside `model.generate` act on the steered distribution."""

from itertools import pairwise

import torch
from helpers import STRONG, decode
from plain_decoding import PROMPT
from transformers import GenerationConfig

import pplm
from attribute_models import BagOfWords
from pplm import SteeringConfig


def sampled(model, bag, new=12, **arguments):
    return decode(model, [PROMPT] * 6, [bag], do_sample=True, loop={"seed": 1}, new=new, **arguments)


def test_top_k_keeps_the_likeliest_tokens_of_the_steered_distribution(model, bag):
    output = sampled(model, bag, top_k=3)
    for step, (scores, logits) in enumerate(zip(output.scores, output.logits, strict=True)):
        assert (scores.isfinite().sum(1) == 3).all()
        chosen = output.sequences[:, 5 + step, None]
        assert (logits.topk(3).indices == chosen).any(1).all()


def test_top_p_and_min_p_cut_the_steered_distribution(gpt2, bag):
    output = sampled(gpt2, bag, top_k=0, top_p=0.4)
    for scores, logits in zip(output.scores, output.logits, strict=True):
        kept = scores.isfinite()
        mass = (logits.softmax(-1) * kept).sum(1)
        smallest = logits.softmax(-1).masked_fill(~kept, 2.0).amin(1)
        assert (mass >= 0.4 - 1e-5).all()
        assert (mass - smallest < 0.4 + 1e-5).all()
    output = sampled(gpt2, bag, top_k=0, min_p=0.5)
    for scores, logits in zip(output.scores, output.logits, strict=True):
        probabilities = logits.softmax(-1)
        wanted = probabilities >= 0.5 * probabilities.amax(1, keepdim=True)
        assert torch.equal(scores.isfinite(), wanted)


def test_temperature_divides_the_steered_logits(gpt2, bag):
    output = sampled(gpt2, bag, top_k=0, temperature=0.5)
    for scores, logits in zip(output.scores, output.logits, strict=True):
        torch.testing.assert_close(scores, logits / 0.5)


def test_the_repetition_penalty_acts_on_the_steered_text(model, bag):
    output = sampled(model, bag, top_k=0, repetition_penalty=1.7)
    for step, (scores, logits) in enumerate(zip(output.scores, output.logits, strict=True)):
        used = torch.zeros_like(logits).scatter(1, output.sequences[:, : 5 + step], 1.0).bool()
        wanted = torch.where(used, torch.where(logits < 0, logits * 1.7, logits / 1.7), logits)
        torch.testing.assert_close(scores, wanted)


def test_no_pair_is_repeated_under_no_repeat_ngram(gpt2):
    eager = BagOfWords.from_token_ids([11, 23], 90)
    strong = SteeringConfig(step_size=3.0, gamma=1.0, norm_rule="current")
    free = decode(gpt2, [PROMPT], [eager], strong, new=20).sequences[0].tolist()
    bound = decode(gpt2, [PROMPT], [eager], strong, new=20, no_repeat_ngram_size=2).sequences[0].tolist()
    assert len(set(pairwise(free))) < len(free) - 1
    assert len(set(pairwise(bound))) == len(bound) - 1


def test_bad_words_never_appear_however_much_they_are_wanted(gpt2):
    wanted = BagOfWords.from_token_ids([11, 23], 90)
    strong = SteeringConfig(step_size=3.0, gamma=1.0, norm_rule="current")
    free = decode(gpt2, [PROMPT], [wanted], strong, new=12).sequences[0, 5:].tolist()
    bound = decode(gpt2, [PROMPT], [wanted], strong, new=12, bad_words_ids=[[11], [23]]).sequences[0, 5:].tolist()
    assert {11, 23} & set(free)
    assert not {11, 23} & set(bound)


def test_the_generation_config_is_honoured(gpt2, bag):
    config = GenerationConfig(max_new_tokens=4, do_sample=True, top_k=1, pad_token_id=0)
    loop = pplm.steered_decoding([bag], STRONG)
    ids = torch.tensor([PROMPT])
    found = gpt2.generate(ids, generation_config=config, custom_generate=loop)
    assert torch.equal(found, decode(gpt2, [PROMPT], [bag], new=4).sequences)


def test_the_recorded_logits_are_not_changed_by_processors(gpt2, bag):
    free = decode(gpt2, [PROMPT], [bag], new=1)
    bound = decode(gpt2, [PROMPT], [bag], new=1, bad_words_ids=[[11]], repetition_penalty=2.0)
    assert torch.equal(free.logits[0], bound.logits[0])
    assert bound.scores[0][0, 11].isneginf()
