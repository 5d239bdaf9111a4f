"""Prompts and transformers' own decoding, with which the tests of the steered loop compare."""

from helpers import left_pad

PROMPT = [5, 9, 33, 71, 12]
PROMPTS = [[5, 9, 33, 71, 12], [8, 64, 2], [17]]


def plain(model, prompts, new=6, **arguments):
    ids, mask = left_pad(prompts)
    defaults = {"attention_mask": mask, "max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    defaults["eos_token_id"] = None
    return model.generate(ids, **{**defaults, "return_dict_in_generate": True, **arguments})


def attributes_of(names, bag, head):
    return [{"bag": bag, "head": head}[name] for name in (names.split() if names else ())]
