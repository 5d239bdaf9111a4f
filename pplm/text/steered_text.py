"""A batch of texts while they are being steered: two histories, one new token at a time.

The order of one step is the paper's (section 3 and figure 1): unsteered logits, steering of the history, steered
logits, geometric fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from pplm.config import SteeringConfig
from pplm.errors import broken_model
from pplm.interface import WeightedAttribute
from pplm.pooling import PooledHidden
from pplm.private_names import prefill, with_next_token
from pplm.products import fast_products
from pplm.text.dial import FixedFusion, Fused, fusion_of
from pplm.text.ended import EndedHistories
from pplm.text.forward import (
    LastToken,
    ModelInputs,
    expected_future,
    forward_last,
    normal_tensors,
    pool_prompt,
    prefill_arguments,
    take_rows,
)
from pplm.text.gauge import Outcome
from pplm.text.kv_cache import CachedHistory, KeyValueBuffer
from pplm.text.limits import broken_scores
from pplm.text.mover import HistoryMover, Turn
from pplm.text.objective import TextSoFar, pool_text
from pplm.text.reader import LastTokenReader
from pplm.text.sampling import is_distribution
from pplm.text.split import SplitModel, moved_layers
from pplm.text.steerable import check_history, check_steerable
from pplm.text.trace import SteeringTrace


class SteeredText:
    """A batch of texts with their two histories, the steered one and the unsteered one.

    Neither is recomputed: each pass feeds the last token alone. The steered history keeps its perturbation (paper,
    section 3.2). Finished samples are no longer read (`keep`): tensors here have the rows of the samples that go on,
    unless they are said to be of the whole batch. `measured` texts can be asked for an `outcome` even if unsteered.
    """

    def __init__(
        self,
        attributes: Sequence[WeightedAttribute],
        steering: SteeringConfig,
        model: Any,
        input_ids: Tensor,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        content_mask: Tensor | None = None,
        *,
        measured: bool = False,
    ) -> None:
        self.attributes, self.steering = attributes, steering
        input_ids, model_kwargs = normal_tensors(input_ids), normal_tensors(model_kwargs)
        self.model, self.input_ids, self.model_kwargs = model, input_ids, model_kwargs
        self.active = bool(attributes) and steering.moves
        self._ended = EndedHistories(len(input_ids))
        self.cache = model_kwargs["past_key_values"]
        cached = self.cache.get_seq_length()
        with fast_products(model):
            outputs = prefill(model, input_ids, generation_config, prefill_arguments(model_kwargs, input_ids.device))
        check_steerable(self.cache)
        check_history(model, self.cache, cached + outputs.hidden_states[-1].shape[1])
        self._unsteered: LastToken | None = LastToken.of(outputs)
        self._length = self.cache.get_seq_length() - 1  # positions before the last token
        text = (input_ids, self.attention_mask, model_kwargs)
        counts = self.attention_mask if content_mask is None else content_mask & self.attention_mask
        self._last_counts = None if content_mask is None else counts[:, -1]  # None: every sample's last token counts
        again = self.active or measured
        self._pooled = pool_prompt(model, text, outputs.hidden_states[-1], cached, counts=counts, again=again)
        del outputs  # it holds the hidden states of all layers
        self._histories: KeyValueBuffer | None = None
        self._split: SplitModel | None = None
        if self.active:
            new_tokens, count = generation_config.max_length - input_ids.shape[1], len(self.cache.layers)
            limit = self._length + 1 + new_tokens + steering.horizon_length
            moved = moved_layers(steering.layers, count)
            self._split = SplitModel(model, count - moved) if moved < count else None
            self._histories = KeyValueBuffer.of(self.cache, single=count - moved, limit=limit)
            self._show_unsteered(self._length + 1)
        layers = range(self._histories.single if self._histories else 0, len(self.cache.layers))
        like = torch.empty(len(input_ids), dtype=model.dtype, device=input_ids.device)
        self._mover = HistoryMover(attributes, steering, layers, like)
        self._fusion = fusion_of(attributes, steering, like) if self.active else FixedFusion(0.0)
        self._new_tokens = 0

    @property
    def _rows(self) -> Tensor:
        """The rows of the whole batch that go on."""
        return self._mover.rows

    @property
    def attention_mask(self) -> Tensor:
        """(B, L) bool: which positions of the whole history, the last token included, are real."""
        mask = self.model_kwargs.get("attention_mask")
        if mask is None:  # transformers leaves the mask out if there is no padding
            return self.input_ids.new_ones(self.input_ids.shape[0], self._length + 1, dtype=torch.bool)
        return mask.bool()

    def next_logits(self) -> Tensor:
        """Read the last token, steer, and return the fused logits of the next one: (B, V) float32."""
        if self._histories is None:
            if self._unsteered is None:
                self._unsteered = forward_last(self.model, self._last_token_inputs(), self.cache)
            self._mover.rest(self._unsteered.logits)
            fused = Fused.unsteered(self._unsteered.logits)
            self._mover.recorder.record_final(fused, self._rows)
            self._read = (self._unsteered, fused)
            return self._unsteered.logits.clone()
        if self._histories.reserve(self._length + 1 + self.steering.horizon_length):
            self._show_unsteered(self._length)
        reader = LastTokenReader(
            self.model, self._last_token_inputs(), self._histories, self._length, self._unsteered, self._split
        )
        seen = self.attention_mask[:, -self.input_ids.shape[1] :]
        text = TextSoFar(self.input_ids, seen, reader, self._pooled, self._last_counts)
        steered_logits = self._steer(text)
        fused = self._fusion.fuse(text, steered_logits, self._mover.reach)
        self._unsteered = reader.unsteered
        self._show_unsteered(self._length + 1)
        self._mover.recorder.record_final(fused, self._rows)
        self._read = (self._unsteered, fused)
        return self._ended.fill(fused.logits, self._rows)

    @property
    def idle(self) -> list[tuple[str, ...]]:
        """For each sample of the whole batch, the names of the attribute models that could not act on it so far."""
        return self._mover.watch.idle

    def measure_steps(self) -> None:
        """Measure from now on how far steering moves the histories."""
        self._mover.measures_steps = True

    def outcome(self) -> Outcome:
        """Return what the next tokens are drawn from, between `next_logits` and `append`."""
        unsteered, fused = self._read
        inputs, length = self._last_token_inputs(), self._length + 1

        def pool(logits: Tensor | None) -> Tensor:
            # The cache shows the unsteered history, the last token included.
            history = CachedHistory(self.cache)
            future = None if logits is None else expected_future(self.model, inputs, history, length, logits, 1)
            return pool_text(self._pooled, self._last_counts, unsteered.hidden_state, future)

        seen = self.attention_mask[:, -self.input_ids.shape[1] :]
        return Outcome(self._rows, self.input_ids, seen, unsteered, fused, self._mover.step_length, pool)

    def keep(self, going_on: Tensor) -> None:
        """Go on only with the samples marked in `going_on`, (B,) bool of the whole batch, on the host.

        To be called before their last tokens are read. Without steering all samples are read to the end, as
        transformers does.
        """
        if self._histories is None or int(going_on.sum()) == len(self._rows):
            return
        here, device = going_on[self._rows.cpu()], self._rows.device
        index, ended = (which.nonzero()[:, 0].to(device) for which in (here, ~here))
        histories, self._histories = self._histories, None  # after an error below, `release` has nothing to join
        self._ended.put(self._rows[ended], [[layer.keys[ended], layer.values[ended]] for layer in self.cache.layers])
        histories.keep(index)
        self.model_kwargs = take_rows({"input_ids": self.input_ids, **self.model_kwargs}, index)
        self.input_ids = self.model_kwargs.pop("input_ids")
        self._mover.select(index)
        self._fusion.select(index)
        if self._pooled is not None:
            self._pooled = self._pooled.select(index)
        self._histories = histories
        self._show_unsteered(self._length)

    def refuse_scores(self, broken: Tensor) -> NoReturn:
        """Raise the error of the last token: its scores were no distribution for the samples in `broken`, (B,) bool."""
        own = broken[self._rows.cpu()]
        unsteered, fused = (bool(is_distribution(reading.logits[own]).all()) for reading in self._read)
        if not unsteered:
            raise broken_model(f"the logits of new token {self._new_tokens - 1}")
        broken_models = self._mover.watch.broken()
        raise broken_scores(self._new_tokens - 1, self.steering, self.attributes, broken_models, sound=fused)

    def append(self, tokens: Tensor) -> None:
        """Append one chosen token per sample, (B,) of the whole batch, without reading it yet."""
        tokens = tokens[self._rows]
        if self._pooled is not None and self._unsteered is not None:
            last = self.attention_mask[:, -1:] if self._last_counts is None else self._last_counts[:, None]
            self._pooled += PooledHidden.of(self._unsteered.hidden_state[:, None], last)
        self.input_ids = torch.cat([self.input_ids, tokens[:, None]], dim=1)
        outputs = CausalLMOutputWithPast(past_key_values=self.cache)
        self.model_kwargs = with_next_token(self.model, outputs, self.model_kwargs)
        self._unsteered = self._last_counts = None  # a new token counts
        self._length += 1
        self._new_tokens += 1

    def release(self) -> None:
        """Leave the unsteered history, without the last token, in the caller's cache, in tensors of its own."""
        if self._histories is not None:
            self._ended.join(self._rows, self.cache)
        self._histories = None

    def finish(self) -> SteeringTrace:
        """Return the record of all tokens, after warning of attribute models that never acted."""
        self._mover.watch.warn_of_idle()
        return self._mover.recorder.trace()

    def _steer(self, text: TextSoFar) -> Tensor:
        """Move the window of the steered history if this token is to be steered; return the steered logits (B, V)."""
        steering, reader = self.steering, text.reader
        idle = self._fusion.look(text)
        if self._length == 0:  # a prompt of one token has no history to move
            logits = reader.unsteered.logits
        elif self._new_tokens >= steering.grad_length or self._new_tokens % steering.steer_every:
            logits = reader.steered(self._length).logits
        else:
            return self._mover.move(text, Turn(self.attention_mask[:, :-1].sum(1), idle, self._fusion.push))
        return self._mover.rest(logits)

    def _show_unsteered(self, length: int) -> None:
        """Let the caller's cache show the first positions of the unsteered history, without copying them."""
        if self._histories is None:
            return
        unsteered = self._histories.unsteered.history(slice(0, length))
        for layer, (keys, values) in zip(self.cache.layers, unsteered, strict=True):
            layer.keys, layer.values = keys, values

    def _last_token_inputs(self) -> ModelInputs:
        inputs = self.model.prepare_inputs_for_generation(self.input_ids, next_sequence_length=1, **self.model_kwargs)
        return {name: value for name, value in inputs.items() if name != "past_key_values"}
