"""Forward passes of the language model as steering needs them: one token over a given history, and the future.

All functions take the model's keyword arguments as `prepare_inputs_for_generation` makes them, so position ids,
attention masks and whatever else a model wants are transformers' business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache

from pplm.errors import InputError
from pplm.text.kv_cache import KeyValueBuffer
from pplm.text.products import product, shared_products

ModelInputs = Mapping[str, Any]


@dataclass(frozen=True)
class LastToken:
    """The outcome of feeding a text's last token.

    Attributes
    ----------
    logits
        (B, V) float32, of the token to come.
    hidden_state
        (B, D), last layer, as it enters the language-model head.

    """

    logits: Tensor
    hidden_state: Tensor

    @classmethod
    def of(cls, outputs: Any) -> LastToken:
        """Take the last position of a model's outputs."""
        return cls(_last(outputs.logits).float(), _last(outputs.hidden_states[-1]))

    def rows(self, rows: slice | Tensor) -> LastToken:
        """Return some of the samples."""
        return LastToken(self.logits[rows], self.hidden_state[rows])


def forward_last(model: Any, inputs: ModelInputs, cache: Cache) -> LastToken:
    """Feed the last token (`inputs` of one position) over a cache of the positions before it."""
    with shared_products(model):
        outputs = model(**{**inputs, "past_key_values": cache}, output_hidden_states=True, return_dict=True)
    return LastToken.of(outputs)


def expected_future(
    model: Any, inputs: ModelInputs, history: KeyValueBuffer, length: int, logits: Tensor, horizon_length: int
) -> Tensor:
    """Roll the text into its expected future (paper, section 3.2).

    Each future position is fed the expected embedding p @ E, p being the distribution before it and E the input
    embeddings; the gradient flows through these. The history itself is a constant.

    Parameters
    ----------
    inputs
        Of the text's last token (position n).
    history
        Unsteered keys and values of the whole text, its last token included, with room for the horizon; positions
        after `length` are overwritten.
    length
        n: how many positions that is.
    logits
        (B, V) distribution of position n + 1; differentiable.
    horizon_length
        Number of future positions, at least 1.

    Returns
    -------
    Tensor
        (B, horizon_length, D) last-layer hidden states.

    """
    embeddings, scale = model.get_input_embeddings().weight, _embedding_scale(model)
    cache = history.cache(length)
    hidden_states = []
    for step in range(1, horizon_length + 1):
        future = _advance(inputs, step)
        future["past_key_values"] = cache
        future["inputs_embeds"] = scale * product(logits.softmax(-1).to(embeddings.dtype), embeddings)[:, None]
        with shared_products(model):
            if step == horizon_length:  # nobody asks for the distribution after the horizon: the body is enough
                future.pop("logits_to_keep", None)
                hidden_states.append(model.base_model(**future, return_dict=True).last_hidden_state)
            else:
                outputs = model(**future, output_hidden_states=True, return_dict=True)
                logits = outputs.logits[:, -1].float()
                hidden_states.append(outputs.hidden_states[-1])
    return torch.cat(hidden_states, dim=1)


_SCALES: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
_PROBES = 8
"""Rows of the embedding matrix that are compared with what the module makes of them."""


def _embedding_scale(model: Any) -> float:
    """Return the factor that a model's embedding module puts on its matrix, found once per model.

    Gemma, BioGPT and others scale inside the module. What the model does after it, it does to `inputs_embeds` as well.

    Raises
    ------
    InputError
        If the module does something else to its matrix, so that there is no expected embedding.

    """
    module = model.get_input_embeddings()
    if module not in _SCALES:
        # The rows furthest from zero: the factor of a padding token's row of zeros could be anything.
        ids = module.weight.detach().float().norm(dim=-1).topk(min(_PROBES, len(module.weight))).indices
        rows, made = module.weight.detach()[ids].float(), module(ids[None])[0].detach().float()
        scale = float((rows * made).sum() / (rows * rows).sum()) if made.shape == rows.shape else math.nan
        if not torch.allclose(made, scale * rows, rtol=1e-2, atol=1e-6):
            raise InputError(
                f"{type(model).__name__} embeds tokens by {type(module).__name__}, which is no multiple of a matrix, "
                "so a discriminator cannot look ahead with it; steer it with bags of words"
            )
        # A factor of 1 comes out as 1 but for rounding, and multiplying by it would change what is published.
        _SCALES[module] = 1.0 if abs(scale - 1) < 1e-6 else scale
    return _SCALES[module]


def _last(positions: Tensor) -> Tensor:
    """Return (B, N) of the last of T positions (B, T, N)."""
    # The gradient of an index would be a tensor of zeros with one position filled in; that of a squeeze is a view.
    return positions.squeeze(1) if positions.shape[1] == 1 else positions[:, -1]


def take_rows(inputs: ModelInputs, index: Tensor) -> dict[str, Any]:
    """Return the inputs of the samples in `index`, which may name a sample twice."""
    batch = next(inputs[name] for name in ("input_ids", "inputs_embeds") if inputs.get(name) is not None).shape[0]
    return {
        name: value[index] if isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] == batch else value
        for name, value in inputs.items()
    }


def _advance(inputs: ModelInputs, steps: int) -> dict[str, Any]:
    """Return inputs for the position `steps` after the last token, without the token itself."""
    future = {name: value for name, value in inputs.items() if name not in ("input_ids", "past_key_values")}
    if future.get("position_ids") is not None:
        future["position_ids"] = future["position_ids"] + steps
    mask = future.get("attention_mask")
    if mask is not None:
        future["attention_mask"] = torch.cat([mask, mask.new_ones(mask.shape[0], steps)], dim=1)
    return future
