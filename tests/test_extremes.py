"""Extreme settings in every number format: a text of real tokens and finite losses, never NaN and never a crash."""

import copy
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pplm
from attribute_models import Avoid, BagOfWords, Discriminator

PLAIN = {"step_size": 0.05, "num_iterations": 3, "gamma": 1.0, "norm_rule": "current"}
EXTREMES = {
    "a huge step": ({"step_size": 10.0}, {}),
    "the highest power": ({"gamma": 2.0}, {}),
    "a heavy KL": ({"kl_scale": 100.0}, {}),
    "one token to draw from": ({}, {"top_k": 1}),
    "cold": ({}, {"temperature": 1e-3}),
    "everything at once": ({"step_size": 10.0, "gamma": 2.0, "kl_scale": 100.0}, {"top_k": 1, "temperature": 1e-3}),
    "everything at once, hot": ({"step_size": 10.0, "gamma": 2.0, "kl_scale": 100.0}, {"top_k": 0, "temperature": 1e3}),
}  # fmt: skip


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16, torch.float16], ids=str)
def model(request, gpt2):
    return copy.deepcopy(gpt2).to(request.param)


def attributes(tokenizer):
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    head = Discriminator.from_weights(weight, torch.zeros(2), ["bad", "good"], "good")
    bags = [BagOfWords.from_words(words, tokenizer, name=words[0]) for words in (["moon", "star"], ["cat"])]
    return [bags[0], head, Avoid(bags[1])]


def check(model, tokenizer, steering, **sampling):
    """Generate, and refuse anything but whole texts of the model's tokens with finite losses."""
    texts = pplm.generate(
        model, tokenizer, ["The moon", "A cat on the sea"], attributes=attributes(tokenizer), steering=steering,
        seed=0, max_new_tokens=4, do_sample=True, eos_token_id=None, **sampling
    )  # fmt: skip
    for text in texts:
        assert len(text.token_ids) == 4
        assert all(0 <= token < len(tokenizer) for token in text.token_ids)
        json.dumps(text.record(), allow_nan=False)


@pytest.mark.parametrize("case", EXTREMES)
def test_extreme_settings_give_texts_without_nan(model, tokenizer, case):
    steering, sampling = EXTREMES[case]
    check(model, tokenizer, pplm.SteeringConfig(**PLAIN | steering), **sampling)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steering=st.fixed_dictionaries(
        {
            "step_size": st.floats(0, 1e4),
            "gamma": st.floats(0, 2),
            "kl_scale": st.floats(0, 1e3),
            "gm_scale": st.floats(0, 1),
            "num_iterations": st.integers(0, 3),
            "norm_rule": st.sampled_from(["current", "running_max"]),
        }
    ),
    temperature=st.floats(1e-6, 1e6),
    top_k=st.integers(0, 400),
)
@pytest.mark.filterwarnings("ignore::pplm.SteeringWarning")
def test_whatever_the_settings_a_text_has_real_tokens_and_finite_losses(gpt2, tokenizer, steering, temperature, top_k):
    check(gpt2, tokenizer, pplm.SteeringConfig(**steering), temperature=temperature, top_k=top_k)
