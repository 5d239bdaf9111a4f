"""What half precision changes, and what it must not."""

import pytest
import torch

import pplm
from attribute_models import BagOfWords
from pplm.models.resources import data_path
from pplm.text.encoding import encode_prompt

PROMPTS = data_path("prompts", "topics.txt").read_text(encoding="utf-8").split("\n")[:10]


def losses(model, tokenizer, prompt, attributes, steering, forced):
    """Return the bag's loss of each next token's distribution, (N,), while the text is forced to be the given one."""

    def force(input_ids, scores):
        token = forced[input_ids.shape[1] - len(ids)]
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([token]), 0.0)

    ids = encode_prompt(model, tokenizer, prompt)
    bag = BagOfWords.load("space", tokenizer)
    output = model.generate(
        torch.tensor([ids]),
        custom_generate=pplm.steered_decoding(attributes, steering),
        logits_processor=[force],
        max_new_tokens=len(forced),
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    words = torch.tensor(bag.token_ids)
    return torch.stack([-logits[0].log_softmax(-1)[words].logsumexp(-1) for logits in output.logits])


def mean_drop(dtype, step_size, tokenizer, texts):
    """Return by how much steering alone lowers the loss, in nats per token, along given texts."""
    model, _ = pplm.load_model(device="cpu", dtype=dtype)
    bag = BagOfWords.load("space", tokenizer)
    steering = pplm.SteeringConfig.for_attributes(
        [bag], presets=pplm.steering_presets(model), preset="paper", step_size=step_size, gm_scale=1.0
    )
    drops = [
        losses(model, tokenizer, prompt, [], steering, forced)
        - losses(model, tokenizer, prompt, [bag], steering, forced)
        for prompt, forced in texts
    ]
    return torch.cat(drops).mean().item()


def check_drop(embedded, step_size, prompts, new_tokens):
    model, tokenizer = embedded
    written = pplm.generate(model, tokenizer, prompts, seed=0, max_new_tokens=new_tokens, do_sample=True, top_k=10)
    texts = [(text.prompt, text.token_ids) for text in written]
    exact, rounded = (mean_drop(dtype, step_size, tokenizer, texts) for dtype in ("float32", "bfloat16"))
    assert exact > 0.05
    assert rounded == pytest.approx(exact, rel=0.05)


@pytest.mark.slow
def test_small_steps_do_not_shrink_in_bfloat16(embedded):
    check_drop(embedded, 0.1, PROMPTS[:2], 12)


@pytest.mark.slow
@pytest.mark.parametrize("step_size", [0.1, 0.4])
def test_over_ten_prompts_bfloat16_lowers_the_loss_as_float32_does(embedded, step_size):
    check_drop(embedded, step_size, PROMPTS, 30)


def test_a_seed_gives_the_same_texts_in_any_batch_in_float32_and_the_same_order_in_bfloat16(gpt2, tokenizer, bag):
    prompts = ["the moon", "a sea of stars", "cat"]
    arguments = {"num_samples": 2, "seed": 3, "max_new_tokens": 8, "do_sample": True, "attributes": [bag]}
    for dtype in (torch.float32, torch.bfloat16):
        model = type(gpt2)(gpt2.config).to(dtype)
        model.load_state_dict(gpt2.state_dict())
        together, apart = (
            pplm.generate(pplm.freeze(model), tokenizer, prompts, max_batch_size=size, **arguments) for size in (6, 1)
        )
        assert [(t.prompt_index, t.sample) for t in together] == [(t.prompt_index, t.sample) for t in apart]
        if dtype == torch.float32:
            assert [t.token_ids for t in together] == [t.token_ids for t in apart]
