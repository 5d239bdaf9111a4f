"""Start a model's token embeddings from another model's: words that were near each other there are so here.

Each of our tokens is written with the other tokenizer; the mean of those pieces' embeddings is its place in the
other space, and the principal components of all places are as much of that space as fits our width. Tokens that are no
text by themselves, such as the first byte of an accented letter, have no place there and start at random.
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
        Of the model to start, V tokens.
    other_model, other_tokenizer
        Where the embeddings come from.
    width
        D; where it is more than the other model's, the rest is random.
    std
        What GPT-2 initialises embeddings with (0.02); the borrowed ones are scaled to it.

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
    directions = torch.linalg.eigh(places.T @ places).eigenvectors.flip(-1)  # the widest spread first
    kept = places @ directions[:, :width]
    embeddings = torch.randn(len(words), width) * std
    embeddings[written, : kept.shape[1]] = kept / kept.std() * std
    return embeddings
