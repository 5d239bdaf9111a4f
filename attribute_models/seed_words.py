"""Grow a bag from a few seed words: their nearest neighbours among the language model's own embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pplm.errors import InputError

_SHORTEST = 3
_ENDINGS = re.compile(r"(?:'s|ies|es|s|ied|ed|ing|ly|y|e)$")


@torch.no_grad()
def neighbours(seeds: Sequence[str], model: Any, tokenizer: Any, *, size: int) -> dict[str, float]:
    """Return the seeds and the words nearest to them, with their cosine similarity, nearest first.

    Similarity is measured between input embeddings with the vocabulary's mean taken out; a seed of several tokens
    stands for the mean of its pieces, and a word's similarity is that to its nearest seed. Candidates are the
    vocabulary's tokens that are whole lower-case words; of words that differ by case or inflection alone the
    nearest is kept.

    Raises
    ------
    InputError
        If there are no seeds, `size` is below their number, or the vocabulary holds too few words.

    """
    seeds = list(dict.fromkeys(seed.strip() for seed in seeds))
    if not seeds or not all(seeds):
        raise InputError(f"seeds must be words; got {seeds}")
    if size < len(seeds):
        raise InputError(f"size must be at least the number of seeds ({len(seeds)}); got {size}")
    embeddings = model.get_input_embeddings().weight.float().cpu()
    embeddings = torch.nn.functional.normalize(embeddings - embeddings.mean(0), dim=-1)
    centres = torch.stack([_centre(seed, embeddings, tokenizer) for seed in seeds])
    words = _whole_words(tokenizer)
    similarity = (embeddings[list(words)] @ centres.T).max(1).values
    bag = dict.fromkeys(seeds, 1.0)
    stems = {_stem(seed) for seed in seeds}
    for position in similarity.argsort(descending=True).tolist():
        if len(bag) == size:
            return bag
        word = list(words.values())[position]
        if _stem(word) not in stems:
            stems.add(_stem(word))
            bag[word] = round(float(similarity[position]), 4)
    if len(bag) < size:
        raise InputError(f"size {size} is more than the {len(bag)} different words of this vocabulary; lower it")
    return bag


def _centre(seed: str, embeddings: Tensor, tokenizer: Any) -> Tensor:
    ids = tokenizer.encode(f" {seed}", add_special_tokens=False)
    if not ids:
        raise InputError(f"seed {seed!r} cannot be spelt by this tokenizer; use another word")
    return torch.nn.functional.normalize(embeddings[ids].mean(0), dim=0)


def _whole_words(tokenizer: Any) -> dict[int, str]:
    """Return token id and word of every token that is a lower-case word behind a space."""
    decoded = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    words = {}
    for token, text in enumerate(decoded):
        word = text.strip()
        if text.startswith(" ") and len(word) >= _SHORTEST and word.isalpha() and word == word.lower():
            words[token] = word
    return words


def _stem(word: str) -> str:
    """Cut common English endings: enough to tell inflections of a word from other words, not a linguist's stem."""
    lower = word.lower()
    stem = _ENDINGS.sub("", lower)
    return stem if len(stem) >= _SHORTEST else lower
