"""Forward passes of the language model as steering needs them: one token over a given history, and the future.

The model's keyword arguments are those of its `prepare_inputs_for_generation`, so position ids, attention masks and
whatever else a model wants are up to transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache

from pplm.errors import InputError, broken_model
from pplm.pooling import PooledHidden, model_body
from pplm.products import fast_products, product
from pplm.text.kv_cache import CachedHistory, KeyValueBuffer

ModelInputs = Mapping[str, Any]


@dataclass(frozen=True)
class LastToken:
    """The outcome of feeding a text's last token.

    Attributes
    ----------
    logits
        (B, V) float32, of the next token; (B, 0) if the language-model head was left out.
    hidden_state
        (B, D), last layer, as it enters the language-model head.

    """

    logits: Tensor
    hidden_state: Tensor

    @classmethod
    def of(cls, outputs: Any) -> LastToken:
        """Take the last position of a model's outputs."""
        return cls(_last(outputs.logits).float(), _last(outputs.hidden_states[-1]))

    @classmethod
    def without_logits(cls, outputs: Any) -> LastToken:
        """Take the last position of the outputs of a model's body."""
        hidden_state = _last(outputs.last_hidden_state)
        return cls(hidden_state[:, :0].float(), hidden_state)

    def rows(self, rows: slice | Tensor) -> LastToken:
        """Return some of the samples."""
        return LastToken(self.logits[rows], self.hidden_state[rows])


def forward_last(model: Any, inputs: ModelInputs, cache: Cache, *, logits: bool = True) -> LastToken:
    """Feed the last token (`inputs` of one position) over a cache of the positions before it.

    Without `logits` only the model's body runs, which saves time: in a small model the head has many of the weights.
    """
    arguments = {**inputs, "past_key_values": cache, "return_dict": True}
    with fast_products(model):
        if logits:
            return LastToken.of(model(**arguments, output_hidden_states=True))
        arguments.pop("logits_to_keep", None)
        return LastToken.without_logits(model_body(model)(**arguments))


def expected_future(
    model: Any,
    inputs: ModelInputs,
    history: KeyValueBuffer | CachedHistory,
    length: int,
    logits: Tensor,
    horizon_length: int,
) -> Tensor:
    """Roll the text into its expected future (paper, section 3.2).

    Each future position is fed the expected embedding p @ E, p being the distribution before it and E the input
    embeddings; the gradient flows through these. The history itself is a constant.

    Parameters
    ----------
    inputs
        Model inputs of the text's last token (position n).
    history
        Unsteered keys and values of the whole text, its last token included, with room for the horizon; positions
        after `length` are overwritten.
    length
        n: the number of positions of the whole text.
    logits
        (B, V), those of the token at position n + 1; differentiable.
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
        # Some matrices have more rows than there are tokens to predict.
        table = embeddings[: logits.shape[-1]]
        future["inputs_embeds"] = scale * product(logits.softmax(-1).to(table.dtype), table)[:, None]
        with fast_products(model):
            if step == horizon_length:  # nobody asks for the distribution after the horizon: the body is enough
                future.pop("logits_to_keep", None)
                hidden_states.append(model_body(model)(**future, return_dict=True).last_hidden_state)
            else:
                outputs = model(**future, output_hidden_states=True, return_dict=True)
                logits = outputs.logits[:, -1].float()
                hidden_states.append(outputs.hidden_states[-1])
    return torch.cat(hidden_states, dim=1)


_SCALES: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
_PROBES = 8
"""Tokens read both by id and by embedding, to find the factor between a model's embeddings and their matrix."""


@torch.no_grad()
def _embedding_scale(model: Any) -> float:
    """Return the factor by which a row of the embedding matrix must be multiplied to be read like its token.

    Models apply it in the embedding module (Gemma, BioGPT), or later to tokens alone, or later to `inputs_embeds` too.
    So it is measured, once per model: the first hidden states are a linear function of the embeddings passed in.

    Raises
    ------
    InputError
        If no factor makes both readings equal, so that there is no expected embedding.

    """
    module = model.get_input_embeddings()
    if module not in _SCALES:
        table = module.weight.detach()
        # The longest rows, because any factor would fit a padding token's row of zeros.
        ids = torch.linalg.vector_norm(table, dim=-1, dtype=torch.float32).topk(min(_PROBES, len(table))).indices[None]
        refused = InputError(
            f"{type(model).__name__} reads a token by more than a multiple of its row in {type(module).__name__}, so a "
            "discriminator cannot look ahead with it; steer it with bags of words (in training mode: call model.eval())"
        )
        try:
            wanted, once, twice = (
                _states(model, **inputs)
                for inputs in ({"input_ids": ids}, {"inputs_embeds": table[ids]}, {"inputs_embeds": 2 * table[ids]})
            )
            if not wanted[1].isfinite().all():
                raise broken_model("its hidden states")
            slope, gap = twice[0] - once[0], wanted[0] - once[0]
            # Exactly 1 if there is no factor: one that is off by rounding would change published results.
            scales = [1 + float((slope * gap).sum() / slope.square().sum()) if gap.any() else 1.0]
            # Not linear in models that normalise embeddings first, so the module's own factor is tried as well.
            scales.append(float((module(ids) * table[ids]).sum() / table[ids].square().sum()))
            rounding = max(1e-3, 8 * torch.finfo(table.dtype).eps) * wanted[1].norm()
            found = [(_states(model, inputs_embeds=scale * table[ids])[1] - wanted[1]).norm() for scale in scales]
        except InputError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:  # the model needs more than embeddings
            raise refused from error
        equal = [scale for scale, distance in zip(scales, found, strict=True) if distance <= rounding]
        if not equal:
            raise refused
        _SCALES[module] = equal[0]
    return _SCALES[module]


def _states(model: Any, **inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last layer's hidden states of some tokens, (1, T, D) float32."""
    outputs = model_body(model)(**inputs, use_cache=False, output_hidden_states=True, return_dict=True)
    states = outputs.hidden_states
    if not torch.equal(states[-1], outputs.last_hidden_state):
        raise InputError(
            f"{type(model).__name__} reports its last hidden states before the normalisation that they enter the "
            "language-model head with, so a discriminator cannot read them; steer it with bags of words"
        )
    return states[0].float(), states[-1].float()


def _last(positions: Tensor) -> Tensor:
    """Return (B, N) of the last of T positions (B, T, N)."""
    # An index has a tensor of zeros with one position filled in as its gradient; a squeeze has a view.
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


def prefill_arguments(model_kwargs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return what the prompt is read with: hidden states, and the logits of its last position alone.

    transformers asks for the last position by a slice. That is a view of all positions, which torch multiplies in
    bfloat16 with one copy of the output embeddings per sample. A list of positions gives a tensor of its own.
    """
    kwargs = {**model_kwargs, "output_hidden_states": True}
    if kwargs.get("logits_to_keep") == 1:
        kwargs["logits_to_keep"] = torch.tensor([-1], device=device)
    return kwargs


def pool_prompt(
    model: Any,
    text: tuple[Tensor, Tensor, ModelInputs],
    hidden_states: Tensor,
    cached: int,
    *,
    counts: Tensor,
    again: bool,
) -> PooledHidden | None:
    """Pool the unsteered hidden states of all positions but the last; `hidden_states` (B, T, D) are those just read.

    `counts` (B, L) bool marks the positions of the whole text that count in the mean.

    A caller's own cache of `cached` positions holds no hidden states. If `again`, these positions are read again, else
    they do not count. `text` is the input ids, the attention mask and the other inputs; if positions are to be read
    again whose tokens it lacks, the result is None, and an attribute model that reads the mean gets an `InputError`.
    """
    input_ids, mask, arguments = text
    pooled = PooledHidden.of(hidden_states[:, :-1], counts[:, cached:-1])
    if cached == 0 or not again:
        return pooled
    if input_ids.shape[1] < mask.shape[1]:
        return None
    inputs = {"input_ids": input_ids[:, :cached], "attention_mask": mask[:, :cached].long()}
    for name in ("position_ids", "token_type_ids"):
        if arguments.get(name) is not None:
            inputs[name] = arguments[name][:, :cached]
    body = model_body(model)(**inputs, use_cache=False, return_dict=True)
    return pooled + PooledHidden.of(body.last_hidden_state, counts[:, :cached])


def normal_tensors(value: Any) -> Any:
    """Replace tensors made in inference mode by normal ones, which can take part in autograd."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {name: normal_tensors(item) for name, item in value.items()}
    if isinstance(value, Cache):
        for layer in value.layers:
            if layer.is_initialized:
                layer.keys, layer.values = normal_tensors(layer.keys), normal_tensors(layer.values)
    return value
