"""What "works" means for a family of models, and what else can be found when one is tried."""

import inspect

import torch
from families import named_outcome
from helpers import STRONG, decode, left_pad, new_tokens
from tiny_families import LAYERS, VOCABULARY, tiny_model, tiny_tokenizer
from transformers import CONFIG_MAPPING, DynamicCache

import pplm
from attribute_models import BagOfWords, Discriminator
from pplm import InputError, SteeringConfig
from pplm.text.forward import expected_future
from pplm.text.kv_cache import KeyValueBuffer

TEXT = [5, 9, 33, 71, 12, 8, 40, 3, 17, 60, 21, 44]
"""Longer than the models' windows."""
NEW = 4
WORDS = range(10, 40)


def found_outcome(family):
    """Build a tiny model of a family and try everything on it; what should hold of a working one is asserted."""
    try:
        model = tiny_model(family)
    except Exception as error:  # noqa: BLE001 - whatever transformers raises is what is shown
        return named_outcome("not built", [f"{type(error).__name__}: {error}"])
    error = refused(lambda: read_a_prompt(model))
    if error is not None:
        return named_outcome("refused", [error])
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    check_that_nothing_moves_without_a_step(model)
    limits = [
        check_that_steering_changes_the_text(model),
        check_that_a_batch_equals_singles(model),
        check_that_heads_steer(model),
        refused(lambda: decode(model, [TEXT + TEXT], new=1)),
        refused(lambda: read_a_prompt(tiny_model(family, is_decoder=False))),
        "is an encoder-decoder" if CONFIG_MAPPING[family].is_encoder_decoder else None,  # what load_model refuses
    ]
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    return named_outcome("works", [limit for limit in limits if limit])


def read_a_prompt(model):
    pplm.generate(model, tiny_tokenizer(), "w5 w9 w33 w71", max_new_tokens=2, do_sample=False)


def with_fields(**fields):
    return SteeringConfig(**{**vars(STRONG), **fields})


def bag():
    return BagOfWords.from_token_ids(list(WORDS), VOCABULARY)


def steered(model, prompts, attribute, *, new=NEW, **fields):
    return decode(model, prompts, [attribute], with_fields(**fields), new=new)


def refused(attempt):
    """Return the text of the error that refuses an attempt, None where nothing does."""
    try:
        attempt()
    except InputError as error:
        return str(error)
    return None


def check_that_nothing_moves_without_a_step(model):
    ids = torch.tensor([TEXT])
    arguments = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, "use_cache": True}
    wanted = model.generate(ids, attention_mask=torch.ones_like(ids), **arguments)
    assert torch.equal(decode(model, [TEXT], new=NEW).sequences, wanted)
    assert torch.equal(steered(model, [TEXT], bag(), step_size=0.0).sequences, wanted)


def check_that_steering_changes_the_text(model):
    """Return why the upper layers cannot be moved alone, or None."""
    strong = {"step_size": 1.0, "num_iterations": 6, "kl_scale": 0.0, "gm_scale": 1.0, "window_length": 0}
    plain, moved = decode(model, [TEXT], new=NEW), steered(model, [TEXT], bag(), **strong)
    assert new_tokens(plain, NEW) != new_tokens(moved, NEW)

    def upper():
        part = steered(model, [TEXT], bag(), layers=LAYERS // 2)
        assert not torch.equal(part.logits[0], plain.logits[0])

    return refused(upper)


def check_that_a_batch_equals_singles(model):
    """Return why prompts of different lengths cannot share a batch, or None; those of one length always can."""

    def compare(prompts):
        for layers in (0, LAYERS // 2):
            if layers and refused(lambda: steered(model, [TEXT], bag(), layers=LAYERS // 2)):
                continue
            batch = steered(model, prompts, bag(), step_size=0.1, layers=layers)
            for row, prompt in enumerate(prompts):
                single = steered(model, [prompt], bag(), step_size=0.1, layers=layers)
                torch.testing.assert_close(batch.logits[0][row], single.logits[0][0], rtol=0, atol=1e-4)
                assert new_tokens(batch, NEW)[row] == new_tokens(single, NEW)[0]

    compare([TEXT[:6], TEXT[6:]])
    return refused(lambda: compare([TEXT, TEXT[:3], TEXT[4:]]))


def check_that_heads_steer(model):
    """Return why a head cannot look ahead, or None; where it can, a certain future equals reading its token."""
    width = model.get_input_embeddings().weight.shape[1]
    weight = 0.3 * torch.randn(3, width, generator=torch.Generator().manual_seed(3))
    head = Discriminator.from_weights(weight, torch.zeros(3), ["a", "b", "c"], "b")

    losses = steered(model, [TEXT], head, new=1, step_size=0.02, horizon_length=0).steering.attribute_loss
    assert losses[0, 1:].min() < losses[0, 0]

    def look_ahead():
        moved = steered(model, [TEXT], head, new=1, step_size=0.02, horizon_length=1)
        assert not torch.equal(moved.logits[0], decode(model, [TEXT], new=1).logits[0])
        check_that_a_certain_future_equals_reading_its_token(model)

    return refused(look_ahead)


@torch.no_grad()
def check_that_a_certain_future_equals_reading_its_token(model):
    tokens = torch.tensor([44, 17])
    ids = torch.tensor([TEXT[:6], TEXT[6:]])
    outputs, inputs = read(model, ids)
    certain = torch.full((2, outputs.logits.shape[-1]), -torch.inf).scatter(1, tokens[:, None], 0.0)
    future = expected_future(
        model, inputs, KeyValueBuffer.of(outputs.past_key_values).unsteered, ids.shape[1], certain, 1
    )
    wanted = read(model, torch.cat([ids, tokens[:, None]], 1))[0].hidden_states[-1][:, -1:]
    torch.testing.assert_close(future, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def read(model, ids):
    """Return the outputs of whole texts, read into a plain cache, and the model inputs of their last tokens."""
    mask, cache = left_pad(ids.tolist())[1], DynamicCache()
    arguments = {"attention_mask": mask, "use_cache": True, "past_key_values": cache}
    if "position_ids" in inspect.signature(model.forward).parameters:
        arguments["position_ids"] = model._prepare_position_ids_for_generation(ids, arguments)
    whole = model.prepare_inputs_for_generation(ids, **arguments)
    outputs = model(**whole, output_hidden_states=True, return_dict=True)
    last = model.prepare_inputs_for_generation(ids, next_sequence_length=1, **arguments)
    return outputs, {name: value for name, value in last.items() if name != "past_key_values"}
