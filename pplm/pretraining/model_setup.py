"""The tokenizer and the weights that a run starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from pplm.errors import InputError
from pplm.models.loading import load_model, load_tokenizer
from pplm.pretraining.embeddings import borrowed_embeddings
from pplm.pretraining.request import BaseModelRequest
from pplm.pretraining.settings import Architecture
from pplm.pretraining.tokenizer import num_token_ids, train_tokenizer
from pplm.seeds import torch_seed


@dataclass(frozen=True)
class StartingPoint:
    """The models that a request names, loaded before any text is read, so that errors in them come at once.

    Attributes
    ----------
    architecture
        The shape of a new model.
    model
        A GPT-2 to train further, in float32 with weights that take gradients; None makes a new one.
    tokenizer
        An existing tokenizer; None trains one.
    donor
        (model, tokenizer) whose embeddings a new model starts from; None starts from random ones.

    """

    architecture: Architecture
    model: Any | None = None
    tokenizer: Any | None = None
    donor: tuple[Any, Any] | None = None

    @classmethod
    def load(cls, request: BaseModelRequest, architecture: Architecture, *, goes_on: bool) -> StartingPoint:
        """Load what is needed; a run that `goes_on` from a checkpoint already has its tokenizer and embeddings.

        Raises
        ------
        InputError
            If a model cannot be loaded, `init` is not a GPT-2, or a tokenizer does not suit it.

        """
        if request.init:
            model, tokenizer = load_model(request.init, device="cpu")
            _check_continuable(model, tokenizer, request.init)
            return cls(architecture, _without_dropout(model).requires_grad_(True).train(), tokenizer)
        tokenizer = load_tokenizer(request.tokenizer) if request.tokenizer and not goes_on else None
        if tokenizer is not None:
            _check_begins(tokenizer, str(request.tokenizer))
            tokenizer.model_max_length = architecture.num_positions
        borrows = request.embeddings_from and not goes_on
        donor = load_model(str(request.embeddings_from), device="cpu") if borrows else None
        return cls(architecture, None, tokenizer, donor)

    @property
    def num_positions(self) -> int:
        """The model's context."""
        return self.architecture.num_positions if self.model is None else int(self.model.config.n_positions)

    def first_tokenizer(self, documents: Sequence[str]) -> Any:
        """Return the existing tokenizer, or one trained on the documents."""
        if self.tokenizer is not None:
            return self.tokenizer
        return train_tokenizer(
            documents, vocab_size=self.architecture.vocab_size, num_positions=self.architecture.num_positions
        )

    def first_model(self, tokenizer: Any, *, seed: int) -> Any:
        """Return the model to train: the one to continue, or a new one initialised with the seed."""
        if self.model is not None:
            return self.model
        with torch.random.fork_rng():
            torch.manual_seed(torch_seed(seed))
            model = GPT2LMHeadModel(gpt2_config(self.architecture, tokenizer)).train()
            if self.donor is not None:
                std = model.config.initializer_range
                borrowed = borrowed_embeddings(tokenizer, *self.donor, width=self.architecture.width, std=std)
                with torch.no_grad():
                    model.get_input_embeddings().weight.copy_(borrowed)
        # Padding is masked, so any token will do; without one, transformers chooses one and logs that for every text.
        model.generation_config.pad_token_id = tokenizer.bos_token_id
        return model


def gpt2_config(architecture: Architecture, tokenizer: Any) -> GPT2Config:
    """Return the configuration, without dropout (one pass over the data does not overfit) and with the fast GELU."""
    return GPT2Config(
        vocab_size=num_token_ids(tokenizer),
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


def _check_continuable(model: Any, tokenizer: Any, name: str) -> None:
    if not isinstance(model, GPT2LMHeadModel):
        raise InputError(f"init {name} is a {type(model).__name__}; only a GPT-2 can be trained further")
    _check_begins(tokenizer, name)
    if num_token_ids(tokenizer) > model.config.vocab_size:
        raise InputError(
            f"init {name} has {model.config.vocab_size} embeddings and a tokenizer of {num_token_ids(tokenizer)} "
            "tokens; the two do not belong together"
        )


def _check_begins(tokenizer: Any, name: str) -> None:
    if tokenizer.bos_token_id is None:
        raise InputError(f"tokenizer {name} has no beginning-of-text token to begin documents with; take another")


def _without_dropout(model: Any) -> Any:
    """Turn dropout off, as in new models: a resumed run could not draw the same random numbers again."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(model.config, name, 0.0)
    return model
