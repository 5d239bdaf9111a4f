"""Agreement with numbers measured on the reference algorithm; see tests/parity/README.md.

`PPLM_PARITY_DIR` may name another folder with a `model/` and a `cases.json` of the same form.
"""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LogitsProcessorList, TopKLogitsWarper

import pplm
from attribute_models import BagOfWords, Discriminator

PARITY = Path(os.environ.get("PPLM_PARITY_DIR", Path(__file__).parent / "parity"))
CASES = json.loads((PARITY / "cases.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return pplm.freeze(AutoModelForCausalLM.from_pretrained(PARITY / "model", dtype=torch.float32))


def attributes_of(case, vocab_size):
    attributes = [BagOfWords.from_token_ids(bag, vocab_size) for bag in case["bags"] or []]
    if head := case["classifier"]:
        weight, bias = torch.tensor(head["weight"]), torch.tensor(head["bias"])
        labels = [str(number) for number in range(len(bias))]
        attributes.append(Discriminator.from_weights(weight, bias, labels, case["class_label"]))
    return attributes


def steering_of(case):
    return pplm.SteeringConfig(
        step_size=case["stepsize"],
        num_iterations=case["num_iterations"],
        gamma=float(case["gamma"]),
        kl_scale=float(case["kl_scale"]),
        gm_scale=float(case["gm_scale"]),
        window_length=case["window_length"],
        decay=case["decay"],
        horizon_length=case["horizon_length"],
        grad_length=case["grad_length"],
        norm_rule="running_max" if case["attribute"] == "bow" else "current",
    )


def decode(model, case, attributes, steering):
    processors = LogitsProcessorList([TopKLogitsWarper(case["top_k"])] if case["top_k"] else [])
    return model.generate(
        torch.tensor([case["prompt"]]),
        generation_config=GenerationConfig(
            max_new_tokens=case["length"],
            do_sample=False,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        ),
        logits_processor=processors,
        custom_generate=pplm.steered_decoding(attributes, steering),
    )


@pytest.mark.parametrize("counted", [False, True], ids=["all layers", "all counted out"])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_tokens_losses_and_probabilities_agree_with_the_published_algorithm(model, case, counted):
    steering = replace(steering_of(case), layers=model.config.num_hidden_layers if counted else 0)
    output = decode(model, case, attributes_of(case, model.config.vocab_size), steering)
    expected = case["expected"]
    assert output.sequences[0].tolist() == expected["tokens"]
    total = (output.steering.attribute_loss + steering.kl_scale * output.steering.kl)[:, :-1]  # before each step
    losses = [[value for value in token if not math.isnan(value)] for token in total[..., 0].tolist()]
    assert [len(token) for token in losses] == [len(token) for token in expected["loss"]]
    for token, wanted in zip(losses, expected["loss"], strict=True):
        assert token == pytest.approx(wanted, abs=1e-4)
    probabilities = torch.cat(output.scores).softmax(-1)
    torch.testing.assert_close(probabilities, torch.tensor(expected["probs"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_without_attributes_the_tokens_are_the_unsteered_ones(model, case):
    output = decode(model, case, [], steering_of(case))
    assert output.sequences[0].tolist() == case["expected"]["unsteered_tokens"]
