"""`generate_stream`: any number of prompts, read as they are needed, their texts in order."""

from itertools import count, islice
from types import SimpleNamespace

import pytest
import torch
from helpers import STRONG, begins_with

import pplm
from attribute_models import BagOfWords
from pplm import InputError
from pplm.interface import weigh_attributes
from pplm.jobs import running
from pplm.jobs.levels import MeanLevels
from pplm.jobs.windows import BATCHES

SETTINGS = {"steering": STRONG, "max_new_tokens": 4, "top_k": 20, "do_sample": True}


@pytest.fixture
def sky(tokenizer):
    return BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="sky")


def prompts(number):
    return ["The " + "sea " * (7 * index % 5) + "is" for index in range(number)]


def test_texts_come_in_the_prompts_order_unsteered_ones_first(gpt2, tokenizer, sky):
    given = prompts(9)
    texts = list(
        pplm.generate_stream(
            gpt2, tokenizer, given, attributes=[sky], num_samples=2, unsteered_samples=1, seed=3,
            max_batch_size=4, **SETTINGS,
        )
    )  # fmt: skip
    assert [(t.prompt_index, t.steered, t.sample) for t in texts] == [
        (p, steered, sample) for p in range(9) for steered, sample in ((False, 0), (True, 0), (True, 1))
    ]
    assert [text.prompt for text in texts[::3]] == given


def test_each_text_is_what_it_is_alone_under_its_prompt_s_number(gpt2, tokenizer, sky):
    given = prompts(6)
    texts = list(pplm.generate_stream(gpt2, tokenizer, given, attributes=[sky], seed=3, max_batch_size=3, **SETTINGS))
    for number, prompt in enumerate(given):
        alone = pplm.generate(gpt2, tokenizer, prompt, attributes=[sky], seed=3, prompt_indices=[number], **SETTINGS)
        assert alone[0].completion == texts[number].completion


def test_a_trace_has_the_levels_of_unsteered_texts_too(gpt2, tokenizer, sky):
    arguments = {"attributes": [sky], "unsteered_samples": 1, "seed": 3, **SETTINGS}
    plain, traced = (
        list(pplm.generate_stream(gpt2, tokenizer, prompts(2), trace=trace, **arguments)) for trace in (False, True)
    )
    assert [text.record() for text in plain] == [text.record() for text in traced]
    assert [text.details for text in plain] == [None] * 4
    assert [list(text.details.levels) for text in traced] == [["sky"]] * 4


def test_prompts_are_read_a_window_at_a_time(gpt2, tokenizer):
    read = []
    endless = (read.append(number) or "The sea" for number in count())
    texts = pplm.generate_stream(gpt2, tokenizer, endless, seed=0, max_batch_size=2, max_new_tokens=1)
    assert read == []
    assert [text.prompt_index for text in islice(texts, 5)] == [*range(5)]
    assert len(read) == BATCHES * 2


def test_prompts_of_similar_length_share_batches_within_a_window(gpt2, tokenizer, monkeypatch):
    generate, batches = running.generate_unjudged, []

    def seen(model, tokenizer, prompts, **options):
        batches.append([len(prompt.split()) for prompt in prompts])
        return generate(model, tokenizer, prompts, **options)

    monkeypatch.setattr(running, "generate_unjudged", seen)
    given = ["The " + "sea " * (number % 2) + "is" for number in range(2 * BATCHES + 4)]
    list(pplm.generate_stream(gpt2, tokenizer, given, seed=0, max_batch_size=2, max_new_tokens=1))
    assert all(len(set(batch)) == 1 for batch in batches)
    assert list(map(len, batches)) == [2] * (BATCHES + 2)


def test_prompts_of_one_call_may_have_seeds_of_their_own(gpt2, tokenizer, sky):
    given = prompts(4)
    together = pplm.generate(gpt2, tokenizer, given, attributes=[sky], seed=[5, 6, 5, 7], **SETTINGS)
    assert [text.seed for text in together] == [5, 6, 5, 7]
    for number, text in enumerate(together):
        alone = pplm.generate(
            gpt2, tokenizer, given[number], attributes=[sky], seed=text.seed, prompt_indices=[number], **SETTINGS
        )
        assert alone[0].completion == text.completion
    with pytest.raises(InputError, match="seed lists 2 seeds for 4 prompts; give one for all"):
        pplm.generate(gpt2, tokenizer, given, seed=[1, 2], **SETTINGS)


def test_a_prompt_that_fails_is_named_after_the_texts_before_it(gpt2, tokenizer):
    texts = pplm.generate_stream(gpt2, tokenizer, ["The sea", "A", " " * 3, "The"], seed=0, max_new_tokens=2)
    assert [next(texts).prompt for _ in range(2)] == ["The sea", "A"]
    with pytest.raises(InputError, match=r"^prompt 2: "):
        next(texts)


def test_a_prompt_that_fails_while_it_is_steered_leaves_the_others_of_its_batch_all_their_texts(gpt2, tokenizer):
    (moon,) = tokenizer.encode(" moon")

    class NotOfMoons:
        """Returns no number for texts that begin with the moon."""

        name = "not of moons"

        def loss(self, step):
            return -step.log_probs[:, 5] * torch.where(begins_with(step, moon), torch.nan, 1.0)

    request = {"attributes": [NotOfMoons()], "unsteered_samples": 1, "seed": 0, **SETTINGS}
    texts = pplm.generate_stream(gpt2, tokenizer, ["The sea", " moon"], **request)
    assert [(out.prompt, out.steered) for out in islice(texts, 2)] == [("The sea", False), ("The sea", True)]
    with pytest.raises(InputError, match=r"^prompt 1: attribute model 'not of moons' returned a loss that is not a"):
        next(texts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "The sea"}, "prompts must be an iterable"),
        ({"max_batch_size": 0}, "max_batch_size must be a whole number of at least 1"),
        ({"streamer": object()}, "streamer does not go with generate_stream"),
        ({"on_token": print}, "on_token does not go with generate_stream"),
        ({"trace": "yes"}, "trace must be True, False or a list of attribute models; got 'yes'"),
        ({"seed": -1}, "seed must be"),
        ({"rerank": 10}, "rerank must be a Rerank; got 10"),
        ({"rerank": pplm.Rerank(candidates=2)}, "rerank needs an attribute model"),
        ({"step_size": 0.1}, "step_size is a setting of steering"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1"),
    ],
)
def test_settings_are_checked_before_the_first_text_is_asked_for(gpt2, tokenizer, arguments, message):
    with pytest.raises(InputError, match=message):
        pplm.generate_stream(gpt2, tokenizer, **{"prompts": ["The sea"], **arguments})


def test_a_missed_target_is_warned_of_once(gpt2, tokenizer, sky):
    settings = {**SETTINGS, "steering": pplm.SteeringConfig.for_attributes([sky], target=0.9, strength=0.1)}
    with pytest.warns(pplm.SteeringWarning, match="target 0.9 of 'sky' is not reached") as found:
        list(pplm.generate_stream(gpt2, tokenizer, prompts(4), attributes=[sky], seed=0, max_batch_size=1, **settings))
    assert len(found) == 1


@pytest.mark.parametrize("levels", [(0.01, 0.19), (0.19, 0.01)])
def test_a_target_that_single_texts_miss_and_their_mean_reaches_is_not_warned_of(sky, levels):
    steering, mean = pplm.SteeringConfig.for_attributes([sky], target=0.1), MeanLevels()
    for level in levels:
        mean.add(weigh_attributes([sky]), steering, [SimpleNamespace(levels={"sky": level})])
    mean.warn()  # a warning is an error here
