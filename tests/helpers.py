"""What several test modules need to run a tiny model."""

import torch

import pplm

STRONG = pplm.SteeringConfig(step_size=0.3, num_iterations=3, gamma=1.0, window_length=5, norm_rule="current")
"""Settings that visibly move the tiny models."""
PROMPTS = [[5, 9, 33, 71, 12], [8, 64, 2, 3, 4], [29, 30, 31, 32, 33]]
UNEVEN = [[5, 9, 33, 71, 12, 7], [8, 64, 2], [29, 30, 31, 32]]
"""Prompts of the dial's tests."""

SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
"""The shape of most families' tiny models, by the names that their configs share."""


def left_pad(prompts, pad=0, extra=0):
    """Return ids and mask (B, T), `extra` padding positions more than needed."""
    width = max(map(len, prompts)) + extra
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask


def decode(model, prompts, attributes=(), steering=STRONG, *, extra=0, new=6, loop=None, **arguments):
    """Run `model.generate` with the steered loop and return its output with scores and logits."""
    ids, mask = left_pad(prompts, extra=extra)
    defaults = {
        "attention_mask": mask,
        "max_new_tokens": new,
        "do_sample": False,
        "pad_token_id": 0,
        "eos_token_id": None,
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
    }
    loop = loop or {}
    return model.generate(
        ids, custom_generate=pplm.steered_decoding(list(attributes), steering, **loop), **{**defaults, **arguments}
    )


def dial(attributes, **fields):
    """Return the settings that a model without any of its own takes."""
    return pplm.SteeringConfig.for_attributes(attributes, **fields)


def new_tokens(output, new=6):
    """Return the new tokens of every row as lists."""
    return output.sequences[:, -new:].tolist()


def ids_of(tokenizer, text):
    """Return a text's token ids with the beginning-of-text token in front."""
    return [tokenizer.bos_token_id, *tokenizer(text).input_ids]


def flat(state):
    """Return the tensors of all groups in one list."""
    return [tensor for group in state for tensor in group]


def stored_bytes(weight):
    """Return the bytes of a weight, or of all tensors that a quantised one is made of."""
    names = [*getattr(weight, "tensor_data_names", ()), *getattr(weight, "optional_tensor_data_names", ())]
    parts = [getattr(weight, name) for name in names] or [weight]
    return sum(part.nbytes for part in parts if part is not None)


def begins_with(step, token):
    """Return which of the texts begin with a token, (B,), after the beginning-of-text token."""
    first = step.attention_mask.int().argmax(1, keepdim=True) + 1
    return step.input_ids.gather(1, first)[:, 0] == token
