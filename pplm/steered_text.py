"""A batch of texts while they are being steered: two histories, one new token at a time.

The order of one step is the paper's (section 3 and figure 1): unsteered logits, steering of the history, steered
logits, geometric fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig

from pplm.config import SteeringConfig
from pplm.distributions import fuse
from pplm.errors import InputError
from pplm.forward import LastToken, ModelInputs, forward_last
from pplm.interface import WeightedAttribute
from pplm.kv_cache import (
    check_steerable,
    drop_last,
    history_length,
    history_of,
    join_window,
    split_window,
    window_weights,
)
from pplm.objective import TextObjective, TextSoFar
from pplm.pooling import PooledHidden
from pplm.steering import steer
from pplm.trace import TraceRecorder


class SteeredText:
    """A batch of texts with their two histories, the steered one and the unsteered one.

    Neither is recomputed: each pass feeds the last token alone. `history` holds the steered keys and values of
    all tokens but the last; the perturbation stays in it (paper, section 3.2).
    """

    def __init__(
        self,
        attributes: Sequence[WeightedAttribute],
        steering: SteeringConfig,
        model: Any,
        input_ids: Tensor,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
    ) -> None:
        self.attributes, self.steering = attributes, steering
        input_ids, model_kwargs = _normal(input_ids), _normal(model_kwargs)
        self.active = bool(self.attributes) and self.steering.moves
        self.model, self.input_ids, self.model_kwargs = model, input_ids, model_kwargs
        cache = model_kwargs["past_key_values"]
        cached = cache.get_seq_length()
        # Private, and the one way to feed a prompt as transformers does, over any cache of the caller's own.
        self._outputs = model._prefill(input_ids, generation_config, {**model_kwargs, "output_hidden_states": True})
        check_steerable(cache)
        self._inputs = self._last_token_inputs()
        self.pooled = self._pool_prompt(cached)
        self.history = drop_last(history_of(cache))
        self.norms: Tensor | None = None
        self.recorder = TraceRecorder(
            tuple(a.name for a in self.attributes),
            self.steering.num_iterations,
            len(self.history),
            input_ids.shape[0],
        )
        self._new_tokens = 0

    @property
    def attention_mask(self) -> Tensor:
        """(B, L) bool: which positions of the whole history, the last token included, are real."""
        mask = self.model_kwargs.get("attention_mask")
        if mask is None:  # transformers leaves out a mask without padding
            batch, length = self.input_ids.shape[0], self.model_kwargs["past_key_values"].get_seq_length()
            return torch.ones(batch, length, dtype=torch.bool, device=self.input_ids.device)
        return mask.bool()

    def next_logits(self) -> Tensor:
        """Steer, and return the fused logits of the next token: (B, V) float32."""
        unsteered = self._unsteered()
        steered = self._steer(unsteered)
        self.history = steered.history
        fused = fuse(unsteered.logits, steered.logits, self.steering.gm_scale)
        if fused.isnan().any():
            raise InputError(
                f"the steered distribution of new token {self._new_tokens} is not a number; lower step_size "
                f"(now {self.steering.step_size}) or num_iterations (now {self.steering.num_iterations})"
            )
        return fused

    def append(self, tokens: Tensor) -> None:
        """Append one chosen token a sample, (B,), without reading it yet."""
        self.input_ids = torch.cat([self.input_ids, tokens[:, None]], dim=1)
        self._new_tokens += 1

    def read_last(self) -> None:
        """Feed the appended token over the unsteered history."""
        unsteered = self._unsteered()
        if self.pooled is not None:
            self.pooled += PooledHidden.of(unsteered.hidden_state[:, None], self.attention_mask[:, -1:])
        self.model_kwargs = self.model._update_model_kwargs_for_generation(self._outputs, self.model_kwargs)
        self._inputs = self._last_token_inputs()
        self._outputs = self.model(
            **{**self._inputs, "past_key_values": self.model_kwargs["past_key_values"]},
            output_hidden_states=True,
            return_dict=True,
        )

    def _unsteered(self) -> LastToken:
        return LastToken(
            self._outputs.logits[:, -1].float(),
            self._outputs.hidden_states[-1][:, -1],
            history_of(self.model_kwargs["past_key_values"]),
        )

    def _steer(self, unsteered: LastToken) -> LastToken:
        """Move the window of the steered history and feed the last token over it."""
        if not self.active or history_length(self.history) == 0:
            self.recorder.unsteered(unsteered.logits)
            return unsteered
        if self._new_tokens >= self.steering.grad_length:
            self.recorder.unsteered(unsteered.logits)
            return forward_last(self.model, self._inputs, self.history)
        mask = self.attention_mask
        lengths = mask[:, :-1].sum(1)
        text = TextSoFar(
            self.input_ids,
            mask[:, -self.input_ids.shape[1] :],
            self._inputs,
            unsteered.logits,
            unsteered.history,
            self.pooled,
        )
        older, window = split_window(self.history, self.steering.window_length)
        objective = TextObjective(self.model, self.attributes, text, older, self.steering.horizon_length)
        weights = window_weights(lengths, self.steering.window_length, self.steering.decay)
        result = steer(window, objective, self.steering, self.norms, weights=weights)
        self.norms = result.norms
        self.recorder.steered(result, objective, lengths > 0)
        return forward_last(self.model, self._inputs, join_window(older, result.state))

    def _last_token_inputs(self) -> ModelInputs:
        inputs = self.model.prepare_inputs_for_generation(self.input_ids, next_sequence_length=1, **self.model_kwargs)
        return {name: value for name, value in inputs.items() if name != "past_key_values"}

    def _pool_prompt(self, cached: int) -> PooledHidden | None:
        """Pool the unsteered hidden states of all positions but the last.

        A cache of the caller's own holds no hidden states: its positions are read again if `input_ids` names
        their tokens; if not, there is no such mean, and an attribute model that asks for it says so.
        """
        mask = self.attention_mask
        pooled = PooledHidden.of(self._outputs.hidden_states[-1][:, :-1], mask[:, cached:-1])
        if cached == 0 or not self.active:
            return pooled
        if self.input_ids.shape[1] < mask.shape[1]:
            return None
        inputs = {"input_ids": self.input_ids[:, :cached], "attention_mask": mask[:, :cached].long()}
        if self.model_kwargs.get("position_ids") is not None:
            inputs["position_ids"] = self.model_kwargs["position_ids"][:, :cached]
        body = self.model.base_model(**inputs, use_cache=False, return_dict=True)
        return pooled + PooledHidden.of(body.last_hidden_state, mask[:, :cached])


def _normal(value: Any) -> Any:
    """Return tensors made in inference mode as normal ones, which can take part in autograd."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {name: _normal(item) for name, item in value.items()}
    if isinstance(value, Cache):
        for layer in value.layers:
            if layer.is_initialized:
                layer.keys, layer.values = _normal(layer.keys), _normal(layer.values)
    return value
