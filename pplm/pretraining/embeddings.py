"""Initialise a model's token embeddings from another model's, so that words near each other there are near here.

Each of our tokens is encoded with the other tokenizer, and the mean embedding of the pieces is its place in the other
model's space. The leading principal components of these places, as many as our width, become our embeddings. Tokens
that are not text by themselves, such as the first byte of an accented letter, have no place there and start at random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pplm.pretraining.tokenizer import num_token_ids


def borrowed_embeddings(tokenizer: Any, other_model: Any, other_tokenizer: Any, *, width: int, std: float) -> Tensor:
    """Return initial embeddings (V, D) with elements of standard deviation `std`.

    Parameters
    ----------
    tokenizer
        Tokenizer of the model to initialise, V tokens.
    other_model, other_tokenizer
        The model that the embeddings come from, and its tokenizer.
    width
        D; if it is larger than the other model's, the remaining columns are random.
    std
        Standard deviation of GPT-2's initial embeddings (0.02); the borrowed ones are scaled to it.

    """
    source = other_model.get_input_embeddings().weight.detach().float().cpu()
    words = tokenizer.batch_decode([[token] for token in range(num_token_ids(tokenizer))])
    pieces = other_tokenizer(words, add_special_tokens=False).input_ids
    written = [
        token
        for token, word in enumerate(words)
        if "\ufffd" not in word and pieces[token] and max(pieces[token]) < len(source)
    ]
    places = torch.stack([source[pieces[token]].mean(0) for token in written])
    places = places - places.mean(0)
    directions = torch.linalg.eigh(places.T @ places).eigenvectors.flip(-1)  # the largest variance first
    kept = places @ directions[:, :width]
    embeddings = torch.randn(len(words), width) * std
    embeddings[written, : kept.shape[1]] = kept / kept.std() * std
    return embeddings
