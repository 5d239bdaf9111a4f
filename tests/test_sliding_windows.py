"""Models whose layers see a sliding window: the whole history is kept, and the model masks by itself."""

import pytest
import torch
import transformers
from helpers import SMALL, STRONG, decode, new_tokens
from transformers import DynamicCache

import pplm
from attribute_models import BagOfWords, Discriminator
from pplm import InputError, SteeringConfig

WINDOW = 4
COMMON = {
    **SMALL,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": WINDOW,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
FAMILIES = {
    "Mistral": {},
    "Ministral": {},
    "Mixtral": EXPERTS,
    "Phi3": {},
    "Gemma2": {},
    "Gemma3": {},
    "GptOss": EXPERTS,
    "Cohere2": {},
    "Olmo3": {},
    "Exaone4": {},
    "Starcoder2": {},
    "Cwm": {},
    "Afmoe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "GraniteSWA": {},
}
CONFIGS = {"Gemma3": "Gemma3TextConfig"}
TEXT = [[5, 9, 33, 71, 12, 8, 40, 3, 17, 60, 21, 44]]


def tiny(family):
    torch.manual_seed(0)
    config = getattr(transformers, CONFIGS.get(family, f"{family}Config"))(**{**COMMON, **FAMILIES[family]})
    assert "DynamicSlidingWindowLayer" in {type(layer).__name__ for layer in DynamicCache(config=config).layers}
    return pplm.freeze(getattr(transformers, f"{family}ForCausalLM")(config))


@pytest.fixture(scope="module", params=FAMILIES)
def sliding(request):
    return tiny(request.param)


def with_fields(**fields):
    return SteeringConfig(**{**vars(STRONG), **fields})


def bag():
    return BagOfWords.from_token_ids([11, 23, 42, 61, 77], 90)


def head():
    weight = 0.3 * torch.randn(3, 32, generator=torch.Generator().manual_seed(3))
    return Discriminator.from_weights(weight, torch.zeros(3), ["a", "b", "c"], "b")


def test_texts_longer_than_the_window_are_those_of_transformers(sliding):
    ids = torch.tensor(TEXT)
    wanted = sliding.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    for attributes, fields in (([], {}), ([bag()], {"step_size": 0.0}), ([bag()], {"step_size": 1e-30, "layers": 2})):
        assert torch.equal(decode(sliding, TEXT, attributes, with_fields(**fields)).sequences, wanted)


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("attribute", [bag(), head()], ids=["bag", "head"])
def test_steering_moves_the_text_and_leaves_the_weights(sliding, attribute, layers):
    before = {name: weight.clone() for name, weight in sliding.state_dict().items()}
    steering = with_fields(layers=layers, step_size=0.02, horizon_length=0)
    plain, steered = decode(sliding, TEXT), decode(sliding, TEXT, [attribute], steering)
    assert steered.steering.attribute_loss[0, -1] < steered.steering.attribute_loss[0, 0]
    assert not torch.equal(plain.logits[0], steered.logits[0])
    assert all(torch.equal(weight, before[name]) for name, weight in sliding.state_dict().items())


@pytest.mark.parametrize("layers", [0, 1])
def test_a_batch_equals_single_runs_whatever_the_padding(sliding, layers):
    prompts = [TEXT[0], TEXT[0][:3], TEXT[0][4:]]
    steering = with_fields(layers=layers, step_size=0.1)
    batch = decode(sliding, prompts, [bag()], steering, extra=2)
    for row, prompt in enumerate(prompts):
        single = decode(sliding, [prompt], [bag()], steering)
        assert new_tokens(batch)[row] == new_tokens(single)[0]
        torch.testing.assert_close(batch.logits[-1][row], single.logits[-1][0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["Mistral", "Gemma3"])
def test_positions_that_no_layer_can_see_any_more_are_not_moved(family, monkeypatch):
    moved, real = [], pplm.steer

    def watched(state, *arguments, **keywords):
        result = real(state, *arguments, **keywords)
        moved.append([(new - old).abs().amax((0, 1, 3)) for old, new in zip(state[0], result.state[0], strict=True)])
        return result

    monkeypatch.setattr("pplm.text.mover.steer", watched)
    decode(tiny(family), TEXT, [bag()], with_fields(window_length=0), new=1)
    for distances in moved[0]:
        seen = WINDOW - 1  # and the last token itself
        assert distances[:-seen].max() == 0
        assert distances[-seen:].min() > 0


def test_the_returned_cache_goes_on_in_transformers_own_generate():
    model = tiny("Mistral")
    output = decode(model, TEXT, [bag()], new=3)
    arguments = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    ids = output.sequences
    fresh = model.generate(ids, attention_mask=torch.ones_like(ids), **arguments)
    going_on = model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=output.past_key_values, **arguments
    )
    assert torch.equal(fresh, going_on)


def test_a_cache_of_the_caller_s_that_has_forgotten_already_is_refused_by_its_layer():
    model, ids = tiny("Mistral"), torch.tensor(TEXT)
    cache = model(ids[:, :-1], past_key_values=DynamicCache(config=model.config), use_cache=True).past_key_values
    with pytest.raises(InputError, match="DynamicSlidingWindowLayer"):
        decode(model, TEXT, [bag()], past_key_values=cache)
