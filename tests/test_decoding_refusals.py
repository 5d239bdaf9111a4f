"""What the steered loop inside `model.generate` refuses: attribute models, weights, modes and lengths."""

import pytest
import torch
from helpers import decode
from plain_decoding import PROMPT, PROMPTS
from transformers import GPT2Config, GPT2LMHeadModel, StaticCache

import pplm
from pplm import InputError, SteeringConfig


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_beams": 2}, "beam search"),
        ({"num_beams": 2, "do_sample": True}, "beam sample"),
        ({"prompt_lookup_num_tokens": 2}, "prompt_lookup_num_tokens"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive search"),
        ({"dola_layers": "low"}, "dola generation"),
        ({"use_cache": False}, "use_cache=False"),
        ({"cache_implementation": "static"}, "static"),
        ({"cache_implementation": "offloaded"}, "offloaded"),
        ({"output_attentions": True}, "output_attentions"),
        ({"output_hidden_states": True}, "output_hidden_states"),
        ({"prefill_chunk_size": 2}, "prefill_chunk_size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("steered", [True, False])
@pytest.mark.filterwarnings("ignore:You have set `compile_config`")
def test_modes_that_make_no_sense_are_refused_by_name(gpt2, bag, arguments, name, steered):
    with pytest.raises(InputError, match=name):
        decode(gpt2, [PROMPT], [bag] if steered else [], **arguments)


def test_input_embeddings_are_refused(gpt2, bag):
    with pytest.raises(InputError, match="inputs_embeds cannot be steered"):
        gpt2.generate(
            inputs_embeds=torch.zeros(1, 3, 32),
            max_new_tokens=2,
            do_sample=False,
            pad_token_id=0,
            custom_generate=pplm.steered_decoding([bag]),
        )


def test_a_static_cache_of_the_caller_is_refused(gpt2, bag):
    with pytest.raises(InputError, match="Static"):
        decode(gpt2, [PROMPT], [bag], past_key_values=StaticCache(config=gpt2.config, max_cache_len=32))


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_last_position_is_used_and_one_token_more_is_refused(gpt2, head, horizon):
    steering = SteeringConfig(step_size=0.1, num_iterations=1, horizon_length=horizon)
    room = 64 - len(PROMPT) - horizon + 1
    assert decode(gpt2, [PROMPT], [head], steering, new=room).sequences.shape[1] == 65 - horizon
    with pytest.raises(InputError, match=rf"max_new_tokens={room + 1} .* needs 65 positions, the model has 64"):
        decode(gpt2, [PROMPT], [head], steering, new=room + 1)


def test_a_config_of_gpt2_without_cache_in_its_own_settings_is_refused(tokenizer, bag):
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=1, n_head=2, use_cache=False)
    with pytest.raises(InputError, match="use_cache=False"):
        decode(pplm.freeze(GPT2LMHeadModel(config)), [PROMPT], [bag])


def test_a_loss_of_the_wrong_shape_is_refused_with_the_model_s_name(gpt2):
    class Total:
        name = "total"

        def loss(self, step):
            return step.log_probs[:, 3].sum()

    with pytest.raises(InputError, match=r"attribute model 'total'.* shape \(2,\); got \(\)"):
        decode(gpt2, PROMPTS[:2], [Total()])


@pytest.mark.parametrize("kl_scale", [0.0, 0.01])
def test_a_loss_cut_off_from_the_graph_is_refused_with_the_model_s_name(gpt2, bag, kl_scale):
    class Detached:
        name = "detached"

        def loss(self, step):
            return step.log_probs[:, 3].detach()

    for attributes in ([Detached()], [bag, Detached()]):
        with pytest.raises(InputError, match=r"'detached'.*autograd graph"):
            decode(gpt2, [PROMPT], attributes, SteeringConfig(kl_scale=kl_scale))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_negative_or_not_finite_is_refused(bag, weight):
    with pytest.raises(InputError, match="weight of attribute 'bag'"):
        pplm.steered_decoding([(bag, weight)])


def test_something_without_a_loss_is_refused():
    with pytest.raises(InputError, match=r"loss\(step\); got str 'space'"):
        pplm.steered_decoding(["space"])


def test_an_overlarge_step_is_reported_with_its_size(gpt2, bag):
    with pytest.raises(InputError, match=r"new token 0 is not a number; lower step_size \(now 1e\+38\)"):
        decode(gpt2, [PROMPT], [bag], SteeringConfig(step_size=1e38, gamma=0.0, num_iterations=3))


def test_a_wrong_number_of_sample_ids_is_refused(gpt2, bag):
    with pytest.raises(InputError, match="sample_ids names 1 samples; the batch has 3 rows"):
        decode(gpt2, PROMPTS, [bag], do_sample=True, loop={"seed": 2, "sample_ids": [(0, 0)]})
