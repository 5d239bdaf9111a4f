"""Short texts of a tiny model, for the tests of `pplm.generate`."""

from helpers import STRONG

import pplm

PROMPTS = ["The sea is", " moon", "Cats and a star over the sea"]


def run(gpt2, tokenizer, prompts=PROMPTS, **arguments):
    defaults = {"steering": STRONG, "max_new_tokens": 6}
    return pplm.generate(gpt2, tokenizer, prompts, **{**defaults, **arguments})
