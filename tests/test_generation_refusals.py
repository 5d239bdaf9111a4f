"""What `pplm.generate` refuses: prompts, requests, models and attribute models that do not fit."""

import copy

import pytest
import torch
from tiny_generation import run
from transformers import GenerationConfig

from attribute_models import BagOfWords, Discriminator
from pplm import InputError


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (lambda t: t("The sea", return_tensors="pt"), "got BatchEncoding; pass the text itself"),
        (lambda t: t("The sea", return_tensors="pt").input_ids, "got Tensor; pass the text itself"),
        (lambda _: {"prompt": "The sea"}, "got dict; pass the text itself"),
        (lambda _: [5, 6], "each of prompts must be a text .*; got int 5; leave it out or write it as text"),
        (lambda _: ["The sea", float("nan")], "got float nan; leave it out or write it as text"),
        (lambda _: {"a", "b"}, "prompts must have an order, and a set has none"),
        (lambda _: 7, "got int; pass the text itself"),
        (lambda _: b"The sea", "got bytes; pass the text itself"),
        (lambda _: [{"role": "user", "content": "Hi"}], "the tokenizer has no chat template"),
        (lambda _: ["The \udcff sea"], r"'The \\udcff sea' holds bytes that are no text; write it in UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_as_a_prompt_by_its_type(gpt2, tokenizer, prompts, message):
    with pytest.raises(InputError, match=message) as error:
        run(gpt2, tokenizer, prompts(tokenizer))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t "])
def test_an_empty_prompt_is_refused_before_anything_is_generated(gpt2, tokenizer, prompt):
    with pytest.raises(InputError, match=r"the prompt .* is empty"):
        run(gpt2, tokenizer, ["The sea", prompt])


def test_no_prompt_at_all_is_refused(gpt2, tokenizer):
    with pytest.raises(InputError, match="prompts is empty"):
        run(gpt2, tokenizer, [])


def test_a_prompt_that_does_not_fit_is_refused_with_both_lengths(gpt2, tokenizer):
    with pytest.raises(InputError, match=r"max_new_tokens=6 after a prompt of 61 tokens needs 67 positions, .* 64"):
        run(gpt2, tokenizer, ["x" * 60])


def test_several_greedy_samples_are_refused(gpt2, tokenizer):
    for arguments in ({"do_sample": False}, {"generation_config": GenerationConfig(max_new_tokens=6, do_sample=False)}):
        with pytest.raises(InputError, match="num_samples=2 greedy texts would all be the same"):
            run(gpt2, tokenizer, num_samples=2, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": "6"}, "max_new_tokens must be a whole number of at least 1; got '6'"),
        ({"prompt_indices": ["a", "b", "c"]}, "prompt_indices must be 3 different numbers of at least 0; got"),
        ({"attributes": None}, r"have a method loss\(step\); got NoneType None"),
        ({"generation_config": {"max_new_tokens": 3}}, "generation_config must be a transformers.GenerationConfig"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1; got 0"),
        ({"max_batch_size": 0}, "max_batch_size must be a whole number of at least 1; got 0"),
        ({"num_return_sequences": 2, "do_sample": True}, "num_return_sequences is called num_samples"),
        (
            {"generation_config": GenerationConfig(num_return_sequences=2, do_sample=True)},
            "num_return_sequences is called",
        ),
        ({"seed": -1, "do_sample": True}, "seed must be a whole number"),
        ({"num_beams": 2}, "beam search"),
        ({"num_samples": "4"}, "num_samples must be a whole number of at least 1; got '4'"),
        ({"num_samples": True}, "num_samples must be a whole number of at least 1; got True"),
        ({"seed": "1"}, "seed must be a whole number of at least 0; got '1'"),
        ({"steering": {"step_size": 0.1}}, r"steering must be a SteeringConfig, .*; got \{'step_size': 0.1\}"),
        ({"step_size": 0.1}, r"step_size is a setting of steering; write steering=SteeringConfig\(step_size=0.1\)"),
        ({"rerank": 10}, r"rerank must be a Rerank; got 10; write rerank=Rerank\(candidates=10\)"),
        ({"attributes": ["space"]}, r"objects that have a method loss\(step\); got str"),
    ],
)
def test_requests_that_mean_nothing_are_refused(gpt2, tokenizer, arguments, message):
    with pytest.raises(InputError, match=message):
        run(gpt2, tokenizer, **arguments)


def test_a_model_whose_own_settings_ask_for_several_texts_is_refused(gpt2, tokenizer):
    several = copy.copy(gpt2)
    several.generation_config = copy.deepcopy(gpt2.generation_config)
    several.generation_config.update(num_return_sequences=2, do_sample=True)
    with pytest.raises(InputError, match="num_return_sequences is called num_samples here"):
        run(several, tokenizer)
    assert len(run(several, tokenizer, "The sea", num_return_sequences=1)) == 1


def test_a_model_or_tokenizer_that_is_none_is_refused_by_type(gpt2, tokenizer):
    for model in ("gpt2-mini", None, tokenizer):
        with pytest.raises(InputError, match=f"model must be one of transformers.* got {type(model).__name__}"):
            run(model, tokenizer)
    for other in ("gpt2-mini", None, gpt2):
        with pytest.raises(InputError, match=f"tokenizer must be one of transformers.* got {type(other).__name__}"):
            run(gpt2, other)


def test_an_assistant_model_is_refused(gpt2, tokenizer):
    with pytest.raises(InputError, match="assistant_model"):
        run(gpt2, tokenizer, assistant_model=gpt2)


def test_a_discriminator_of_another_width_is_refused_with_both_widths(gpt2, tokenizer):
    wide = Discriminator.from_weights(torch.ones(2, 48), torch.zeros(2), ["a", "b"], "a", name="wide")
    with pytest.raises(InputError, match=r"wide was made for another model, .* of width 48; .* 32 wide"):
        run(gpt2, tokenizer, attributes=[wide])


def test_a_bag_of_a_larger_vocabulary_is_refused(gpt2, tokenizer):
    with pytest.raises(InputError, match="5000 tokens"):
        run(gpt2, tokenizer, attributes=[BagOfWords.from_token_ids([4999], 5000)])


def test_a_loss_of_the_wrong_shape_is_refused(gpt2, tokenizer):
    class Wrong:
        def loss(self, step):
            return step.log_probs

    with pytest.raises(InputError, match=r"'Wrong'.* shape \(3,\); got \(3, "):
        run(gpt2, tokenizer, attributes=[Wrong()])
