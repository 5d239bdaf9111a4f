"""The tokenizer and the weights that a run starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from pplm.errors import InputError
from pplm.models import load_model
from pplm.pretraining.embeddings import borrowed_embeddings
from pplm.pretraining.settings import Architecture
from pplm.pretraining.tokenizer import train_tokenizer


def first_tokenizer(
    documents: Sequence[str], architecture: Architecture, *, init: str | None, tokenizer: str | None
) -> Any:
    """Return the tokenizer of `init`, or the one named, or a new one trained on the documents.

    Raises
    ------
    InputError
        If a named one cannot be loaded, or both are given.

    """
    if init and tokenizer:
        raise InputError(f"init {init} brings its own tokenizer; leave out tokenizer ({tokenizer})")
    if init:
        return load_model(init, device="cpu")[1]
    if tokenizer:
        return load_tokenizer(tokenizer)
    return train_tokenizer(documents, vocab_size=architecture.vocab_size, num_positions=architecture.num_positions)


def load_tokenizer(folder: str | Path) -> Any:
    """Load a tokenizer from a folder or the hub, with an end-of-text token that can begin documents.

    Raises
    ------
    InputError
        If there is none, or it has no such token.

    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"tokenizer {folder} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    if tokenizer.bos_token_id is None:
        raise InputError(f"tokenizer {folder} has no beginning-of-text token to begin documents with; take another")
    return tokenizer


def first_model(
    tokenizer: Any, architecture: Architecture, *, init: str | None, embeddings_from: str | None, seed: int
) -> GPT2LMHeadModel:
    """Return the model to train, in float32, with weights that take gradients.

    Parameters
    ----------
    tokenizer
        Of this model.
    architecture
        Of a new model; ignored with `init`.
    init
        A GPT-2 whose training continues; None starts anew.
    embeddings_from
        A model whose embeddings a new model starts from; None starts from random ones.
    seed
        Of random weights.

    Raises
    ------
    InputError
        If a model cannot be loaded or is no GPT-2, or both `init` and `embeddings_from` are given.

    """
    if init:
        if embeddings_from:
            raise InputError(f"init {init} has embeddings already; leave out embeddings_from ({embeddings_from})")
        model, _ = load_model(init, device="cpu")
        if not isinstance(model, GPT2LMHeadModel):
            raise InputError(f"init {init} is a {type(model).__name__}; only a GPT-2 can be trained further")
        return model.requires_grad_(True).train()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(gpt2_config(architecture, tokenizer)).train()
        if embeddings_from:
            other, other_tokenizer = load_model(embeddings_from, device="cpu")
            std = model.config.initializer_range
            borrowed = borrowed_embeddings(tokenizer, other, other_tokenizer, width=architecture.width, std=std)
            with torch.no_grad():
                model.get_input_embeddings().weight[: len(borrowed)] = borrowed
    return model


def gpt2_config(architecture: Architecture, tokenizer: Any) -> GPT2Config:
    """Return the configuration: no dropout (one pass over the data does not overfit), the fast form of GELU."""
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=architecture.num_positions,
        n_embd=architecture.width,
        n_layer=architecture.num_layers,
        n_head=architecture.num_heads,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
