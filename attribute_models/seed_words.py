"""Grow a bag from a few seed words: their nearest neighbours among the language model's own embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from attribute_models.completion import start_of_text
from pplm.errors import InputError

_SHORTEST = 3
_CHUNK = 128
"""Candidates shown to the language model at once."""
_ENDINGS = re.compile(r"(?:'s|ies|es|s|ied|ed|ing|ly|y|e)$")


@torch.no_grad()
def neighbours(seeds: Sequence[str], model: Any, tokenizer: Any, *, size: int) -> dict[str, float]:
    """Return the seeds and the words nearest to them, with their cosine similarity, nearest first.

    Similarity is measured between input embeddings after removing their mean and their D / 100 strongest directions,
    which reflect how frequent words are rather than what they mean (Mu and Viswanath 2018). A seed of several tokens
    is represented by the mean of its pieces; a word's similarity is that to its nearest seed. Candidates are the
    tokens that are lower-case words of at least 3 letters. Of words that differ only in case or inflection the
    nearest is kept. Tokens that the language model expects to be continued into longer words are left out.

    Raises
    ------
    InputError
        If there are no seeds, a seed cannot be spelt, `size` is below their number, or the vocabulary holds too few
        words.

    """
    seeds = list(dict.fromkeys(seed.strip() for seed in seeds))
    if not seeds or not all(seeds):
        raise InputError(f"seeds must be words; got {seeds}")
    if size < len(seeds):
        raise InputError(f"size must be at least the number of seeds ({len(seeds)}); got {size}")
    embeddings = model.get_input_embeddings().weight.float().cpu()
    # Some tokenizers have more tokens than their model.
    decoded = tokenizer.batch_decode([[token] for token in range(min(len(tokenizer), len(embeddings)))])
    candidates = [token for token, text in enumerate(decoded) if _is_word(text)]
    embeddings = _directions(embeddings, candidates)
    centres = torch.stack([_centre(seed, embeddings, tokenizer) for seed in seeds])
    similarity, order = (embeddings[candidates] @ centres.T).max(1).values.sort(descending=True)
    bag = dict.fromkeys(seeds, 1.0)
    stems = {_stem(seed) for seed in seeds}
    for start in range(0, len(order), _CHUNK):
        ranks = range(start, min(start + _CHUNK, len(order)))
        tokens = [candidates[int(order[rank])] for rank in ranks]
        for rank, token, whole in zip(ranks, tokens, _whole_words(tokens, model, decoded), strict=True):
            word = decoded[token].strip()
            if len(bag) == size:
                return bag
            if whole and _stem(word) not in stems:
                stems.add(_stem(word))
                bag[word] = round(float(similarity[rank]), 4)
    if len(bag) < size:
        raise InputError(f"size {size} is more than the {len(bag)} different words of this vocabulary; lower it")
    return bag


def _directions(embeddings: Tensor, candidates: Sequence[int]) -> Tensor:
    """Return embeddings (V, D) as unit vectors, without their mean and their strongest directions."""
    centred = embeddings - embeddings[candidates].mean(0)
    strongest = torch.linalg.svd(centred[candidates], full_matrices=False).Vh[: round(embeddings.shape[1] / 100)]
    return normalize(centred - (centred @ strongest.T) @ strongest, dim=-1)


def _centre(seed: str, embeddings: Tensor, tokenizer: Any) -> Tensor:
    ids = tokenizer.encode(f" {seed}", add_special_tokens=False)
    if not ids:
        raise InputError(f"seed {seed!r} cannot be spelt by this tokenizer; use another word")
    return normalize(embeddings[ids].mean(0), dim=0)


def _is_word(text: str) -> bool:
    word = text.strip()
    return text.startswith(" ") and len(word) >= _SHORTEST and word.isalpha() and word == word.lower()


def _whole_words(tokens: Sequence[int], model: Any, decoded: Sequence[str]) -> list[bool]:
    """Return for each token whether the model expects it to be a word of its own rather than to be continued."""
    rows = [[*start_of_text(model), token] for token in tokens]
    probs = model(input_ids=torch.tensor(rows, device=model.device)).logits[:, -1].float().softmax(-1).cpu()
    continues = torch.zeros(probs.shape[1])
    continues[: len(decoded)] = torch.tensor([float(text[:1].isalpha()) for text in decoded])
    return ((probs @ continues) < 0.5).tolist()


def _stem(word: str) -> str:
    """Cut common English endings: enough to tell inflections of a word from other words, not a linguist's stem."""
    lower = word.lower()
    stem = _ENDINGS.sub("", lower)
    return stem if len(stem) >= _SHORTEST else lower
