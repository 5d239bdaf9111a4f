"""Forward passes of the language model as steering needs them: one token over a given history, and the future.

All functions take the model's keyword arguments as `prepare_inputs_for_generation` makes them, so position ids,
attention masks and whatever else a model wants are transformers' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pplm.kv_cache import History, cache_of, history_of

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
    history
        Keys and values including the token just fed.

    """

    logits: Tensor
    hidden_state: Tensor
    history: History


def forward_last(model: Any, inputs: ModelInputs, history: History) -> LastToken:
    """Feed the last token (`inputs` of one position) over a history of the positions before it."""
    cache = cache_of(history)
    outputs = model(**{**inputs, "past_key_values": cache}, output_hidden_states=True, return_dict=True)
    return LastToken(outputs.logits[:, -1].float(), outputs.hidden_states[-1][:, -1], history_of(cache))


def expected_future(model: Any, inputs: ModelInputs, history: History, logits: Tensor, horizon_length: int) -> Tensor:
    """Roll the text into its expected future (paper, section 3.2).

    Each future position is fed the expected embedding p @ E, p being the distribution before it and E the input
    embeddings; the gradient flows through these. The history itself is a constant.

    Parameters
    ----------
    inputs
        Of the text's last token (position n).
    history
        Unsteered keys and values of the whole text, its last token included.
    logits
        (B, V) distribution of position n + 1; differentiable.
    horizon_length
        Number of future positions, at least 1.

    Returns
    -------
    Tensor
        (B, horizon_length, D) last-layer hidden states.

    """
    embeddings = model.get_input_embeddings().weight
    cache = cache_of(history)
    hidden_states = []
    for step in range(1, horizon_length + 1):
        future = _advance(inputs, step)
        future["past_key_values"] = cache
        future["inputs_embeds"] = (logits.softmax(-1).to(embeddings.dtype) @ embeddings)[:, None]
        if step == horizon_length:  # nobody asks for the distribution after the horizon: the body is enough
            future.pop("logits_to_keep", None)
            hidden_states.append(model.base_model(**future, return_dict=True).last_hidden_state)
        else:
            outputs = model(**future, output_hidden_states=True, return_dict=True)
            logits = outputs.logits[:, -1].float()
            hidden_states.append(outputs.hidden_states[-1])
    return torch.cat(hidden_states, dim=1)


def _advance(inputs: ModelInputs, steps: int) -> dict[str, Any]:
    """Return inputs for the position `steps` after the last token, without the token itself."""
    future = {name: value for name, value in inputs.items() if name not in ("input_ids", "past_key_values")}
    if future.get("position_ids") is not None:
        future["position_ids"] = future["position_ids"] + steps
    mask = future.get("attention_mask")
    if mask is not None:
        future["attention_mask"] = torch.cat([mask, mask.new_ones(mask.shape[0], steps)], dim=1)
    return future
