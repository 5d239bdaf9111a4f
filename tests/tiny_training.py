"""A tiny language model, its tokenizer and labelled sentences for the tests of training."""

import random

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import pplm

torch.set_num_threads(1)  # tensors this small are slower in threads, which only wait for each other

GOOD = ["lovely", "bright", "kind", "warm", "fresh"]
BAD = ["awful", "dull", "rude", "cold", "stale"]
OTHER = ["the", "a", "room", "meal", "walk", "was", "and", "very", "with", "staff", "view", "we", "had", "today"]


def tiny_tokenizer():
    words = ["<|endoftext|>", "<unk>", *OTHER, *GOOD, *BAD]
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>", unk_token="<unk>")


def tiny_model(seed=0):
    config = GPT2Config(
        vocab_size=26, n_positions=24, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, name_or_path="t"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return pplm.freeze(GPT2LMHeadModel(config))


def sentences(number=60, seed=0):
    """Distinct sentences of 4 to 14 words, half good and half bad."""
    rng = random.Random(seed)
    rows = {}
    while len(rows) < number:
        label = "good" if len(rows) % 2 else "bad"
        words = [rng.choice(OTHER) for _ in range(rng.randint(3, 10))]
        for _ in range(rng.randint(1, 4)):
            words.insert(rng.randint(0, len(words)), rng.choice(GOOD if label == "good" else BAD))
        rows[" ".join(words)] = label
    return list(rows), list(rows.values())
