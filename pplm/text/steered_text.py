"""A batch of texts while they are being steered: two histories, one new token at a time.

The order of one step is the paper's (section 3 and figure 1): unsteered logits, steering of the history, steered
logits, geometric fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from pplm.config import SteeringConfig
from pplm.errors import broken_model
from pplm.interface import WeightedAttribute
from pplm.pooling import PooledHidden
from pplm.products import fast_products
from pplm.steering import Steered, steer
from pplm.text.distributions import fuse
from pplm.text.ended import EndedHistories
from pplm.text.exact_window import ExactWindow
from pplm.text.forward import (
    LastToken,
    ModelInputs,
    forward_last,
    normal_tensors,
    pool_prompt,
    prefill_arguments,
    take_rows,
)
from pplm.text.kv_cache import History, KeyValueBuffer
from pplm.text.limits import broken_scores
from pplm.text.objective import TextObjective, TextSoFar
from pplm.text.reader import LastTokenReader
from pplm.text.sampling import is_distribution
from pplm.text.split import SplitModel, moved_layers
from pplm.text.steerable import check_history, check_steerable
from pplm.text.step_plan import StepPlan
from pplm.text.trace import SteeringTrace, TraceRecorder
from pplm.text.watch import SteeringWatch


class SteeredText:
    """A batch of texts with their two histories, the steered one and the unsteered one.

    Neither is recomputed: each pass feeds the last token alone. The steered history keeps its perturbation (paper,
    section 3.2). Only samples that go on are read (`keep`); all else below has their rows alone.
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
    ) -> None:
        self.attributes, self.steering = attributes, steering
        input_ids, model_kwargs = normal_tensors(input_ids), normal_tensors(model_kwargs)
        self.model, self.input_ids, self.model_kwargs = model, input_ids, model_kwargs
        self.active = bool(attributes) and steering.moves
        self._ended = EndedHistories(len(input_ids))
        self._rows = torch.arange(len(input_ids), device=input_ids.device)  # of the whole batch, those that go on
        self.cache = model_kwargs["past_key_values"]
        cached = self.cache.get_seq_length()
        # Private, and the one way to feed a prompt as transformers does, over any cache of the caller's own.
        with fast_products(model):
            outputs = model._prefill(input_ids, generation_config, prefill_arguments(model_kwargs, input_ids.device))
        check_steerable(self.cache)
        check_history(model, self.cache, cached + outputs.hidden_states[-1].shape[1])
        self._unsteered: LastToken | None = LastToken.of(outputs)
        self._length = self.cache.get_seq_length() - 1  # positions before the last token
        text = (input_ids, self.attention_mask, model_kwargs)
        counts = self.attention_mask if content_mask is None else content_mask & self.attention_mask
        self._last_counts = None if content_mask is None else counts[:, -1]  # None: every sample's last token does
        self._pooled = pool_prompt(model, text, outputs.hidden_states[-1], cached, counts=counts, again=self.active)
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
        precision = torch.promote_types(model.dtype, torch.float32)
        groups = len(self.cache.layers) - (self._histories.single if self._histories else 0)
        self._plan = StepPlan.of(steering, attributes)
        steps = () if self._plan.steps is None else (len(attributes),)
        self._norms = torch.zeros(*steps, groups, len(input_ids), dtype=precision, device=input_ids.device)
        self._strongest = self._norms.new_zeros(len(input_ids))  # norm of the longest gradient so far, `skip_weak`
        self._untouched = torch.ones_like(input_ids[:, 0], dtype=torch.bool)  # samples whose two histories are equal
        self._rounds = model.dtype != precision
        # Whether an iteration needs the next token's logits: for the KL, for a look ahead or for an attribute.
        ask = [getattr(attribute.model, "reads_logits", True) for attribute in attributes]
        self._reads_logits = steering.kl_scale > 0 or steering.horizon_length > 0 or any(ask)
        self._exact = ExactWindow()  # used with half-precision models
        self._watch = SteeringWatch(attributes, len(input_ids), input_ids.device)
        self.recorder = TraceRecorder(
            tuple(a.name for a in attributes), steering.num_iterations, groups, len(input_ids)
        )
        self._new_tokens = 0

    @property
    def attention_mask(self) -> Tensor:
        """(B, L) bool: which positions of the whole history, the last token included, are real."""
        mask = self.model_kwargs.get("attention_mask")
        if mask is None:  # transformers leaves out a mask without padding
            return self.input_ids.new_ones(self.input_ids.shape[0], self._length + 1, dtype=torch.bool)
        return mask.bool()

    def next_logits(self) -> Tensor:
        """Read the last token, steer, and return the fused logits of the next one: (B, V) float32."""
        if self._histories is None:
            if self._unsteered is None:
                self._unsteered = forward_last(self.model, self._last_token_inputs(), self.cache)
            self.recorder.record_unsteered(self._unsteered.logits)
            self._read = (self._unsteered.logits, self._unsteered.logits)
            return self._unsteered.logits.clone()
        if self._histories.reserve(self._length + 1 + self.steering.horizon_length):
            self._show_unsteered(self._length)
        reader = LastTokenReader(
            self.model, self._last_token_inputs(), self._histories, self._length, self._unsteered, self._split
        )
        steered_logits = self._steer(reader)
        self._unsteered = reader.unsteered
        self._show_unsteered(self._length + 1)
        fused = fuse(self._unsteered.logits, steered_logits, self.steering.gm_scale)
        self._read = (self._unsteered.logits, fused)
        return self._ended.fill(fused, self._rows)

    def keep(self, going_on: Tensor) -> None:
        """Go on with some of the samples alone, (B,) bool on the host, before their last tokens are read.

        Without steering all are read to the end, as transformers does.
        """
        if self._histories is None or int(going_on.sum()) == len(self._rows):
            return
        here, device = going_on[self._rows.cpu()], self._rows.device
        index, ended = (which.nonzero()[:, 0].to(device) for which in (here, ~here))
        histories, self._histories = self._histories, None  # an error below leaves nothing to be put together
        self._ended.put(self._rows[ended], [[layer.keys[ended], layer.values[ended]] for layer in self.cache.layers])
        histories.keep(index)
        self.model_kwargs = take_rows({"input_ids": self.input_ids, **self.model_kwargs}, index)
        self.input_ids = self.model_kwargs.pop("input_ids")
        self._rows, self._norms, self._strongest = self._rows[index], self._norms[..., index], self._strongest[index]
        self._untouched = self._untouched[index]
        self._exact.select(index)
        if self._pooled is not None:
            self._pooled = self._pooled.select(index)
        self._histories = histories
        self._show_unsteered(self._length)

    def refuse_scores(self, broken: Tensor) -> NoReturn:
        """Refuse the token appended last: of the samples in `broken`, (B,) bool, the scores were no distribution."""
        unsteered, fused = (bool(is_distribution(logits[broken[self._rows.cpu()]]).all()) for logits in self._read)
        if not unsteered:
            raise broken_model(f"the logits of new token {self._new_tokens - 1}")
        raise broken_scores(self._new_tokens - 1, self.steering, steered=not fused, attributes=self._watch.broken())

    def append(self, tokens: Tensor) -> None:
        """Append one chosen token per sample, (B,) of the whole batch, without reading it yet."""
        tokens = tokens[self._rows]
        if self._pooled is not None and self._unsteered is not None:
            last = self.attention_mask[:, -1:] if self._last_counts is None else self._last_counts[:, None]
            self._pooled += PooledHidden.of(self._unsteered.hidden_state[:, None], last)
        self.input_ids = torch.cat([self.input_ids, tokens[:, None]], dim=1)
        outputs = CausalLMOutputWithPast(past_key_values=self.cache)
        self.model_kwargs = self.model._update_model_kwargs_for_generation(outputs, self.model_kwargs)
        self._unsteered = self._last_counts = None  # a new token counts
        self._length += 1
        self._new_tokens += 1

    def release(self) -> None:
        """Leave the unsteered history, but for the last token, in the caller's cache, in tensors of its own."""
        if self._histories is not None:
            self._ended.join(self._rows, self.cache)
        self._histories = None

    def finish(self) -> SteeringTrace:
        """Return the record of all tokens, after warning of attribute models that never acted."""
        self._watch.warn_of_idle()
        return self.recorder.trace()

    def _steer(self, reader: LastTokenReader) -> Tensor:
        """Move the window of the steered history, if this token's turn has come; return the steered logits (B, V)."""
        steering = self.steering
        if self._length == 0:  # a prompt of one token has no history to move
            self.recorder.record_unsteered(reader.unsteered.logits)
            return reader.unsteered.logits
        if self._new_tokens >= steering.grad_length or self._new_tokens % steering.steer_every:
            logits = reader.steered(self._length).logits
            self.recorder.record_unsteered(logits)
            return logits
        mask = self.attention_mask
        text = TextSoFar(self.input_ids, mask[:, -self.input_ids.shape[1] :], reader, self._pooled, self._last_counts)
        everyone = torch.arange(len(mask), device=mask.device)
        if not steering.skips:
            return self._move(text, everyone, reader)
        # One look at all samples decides which are steered; only they take the iterations.
        logits, wants = self._look(text, everyone)
        wanting = everyone[wants]
        if len(wanting) == 0:
            self.recorder.record_unsteered(logits)
            return logits
        if len(wanting) == len(mask):
            return self._move(text, everyone, reader)
        some = text.select(wanting, steering.horizon_length)
        moved = self._move(some, wanting, reader)
        reader.put(wanting, some.reader, self._window_start)
        return logits.index_copy(0, wanting, moved)

    def _look(self, text: TextSoFar, everyone: Tensor) -> tuple[Tensor, Tensor]:
        """Read the last token over the steered history as it is: its logits (B, V), and who wants steering, (B,)."""
        steering, reader = self.steering, text.reader
        objective = self._objective(text)
        if steering.skip_weak == 0:
            last = reader.steered(self._length)
            loss = objective.attribute_loss(last)
            self._watch.losses(objective.acted, self._rows)
            return last.logits, loss >= steering.skip_below
        looked = self._take_steps(objective, self._window(reader, everyone), everyone, still=True)
        self._watch.losses(objective.acted, self._rows)
        strength = torch.linalg.vector_norm(looked.gradient_norms[0], dim=0)
        self._strongest = torch.maximum(self._strongest, strength)
        strong = (strength > 0) & (strength >= steering.skip_weak * self._strongest)
        return objective.logits, strong & (objective.outcomes[0][0] >= steering.skip_below)

    def _objective(self, text: TextSoFar, **flags: Any) -> TextObjective:
        flags["apart"] = self._plan.steps is not None
        return TextObjective(self.attributes, text, self._window_start, self.steering.horizon_length, **flags)

    def _take_steps(self, objective: TextObjective, window: History, index: Tensor, *, still: bool = False) -> Steered:
        """Let the core move the window of the samples in `index`; `still` asks for gradients, by steps of length 0."""
        steering, steps, norms = self.steering, self._plan.steps, None if still else self._norms[..., index]
        if still:
            steering, steps = replace(steering, num_iterations=1, step_size=0.0), self._plan.still()
        weights, untouched = self._plan.weights(self._history_lengths(index), self._length), self._untouched[index]
        return steer(window, objective, steering, norms, steps=steps, weights=weights, untouched=untouched)

    @property
    def _window_start(self) -> int:
        """The first position that steering moves."""
        return self._plan.start(self._length)

    def _window(self, reader: LastTokenReader, index: Tensor) -> History:
        """Return the steered window of the samples in `index`, in float32 at least, as steering has left it."""
        start = self._window_start
        return self._exact.restore(reader.window(start), start, index)

    def _move(self, text: TextSoFar, index: Tensor, whole: LastTokenReader) -> Tensor:
        """Let the core move the window of the samples in `index`; return their logits over the outcome.

        `whole` reads the whole batch, of which `text` may hold a part.
        """
        start = self._window_start
        objective = self._objective(text, reads_logits=self._reads_logits, probes=self._watch.awaits_gradients)
        window = self._window(text.reader, index)
        result = self._take_steps(objective, window, index)
        self._norms = self._norms.index_copy(-1, index, result.norms)
        if result.untouched is not None:
            self._untouched = self._untouched.index_copy(0, index, result.untouched)
        has_history = self._history_lengths(index) > 0
        self._watch.losses(objective.acted, self._rows[index])
        self._watch.broke |= objective.broke
        if objective.gradient_norms is not None:
            to_lower = has_history & (objective.attribute_losses[0].nan_to_num() != 0)
            first = len(self.cache.layers) - len(window)
            self._watch.gradients(objective.gradient_norms, to_lower, result.gradient_norms[0], first)
        if self._rounds:
            window = self._window(whole, torch.arange(len(self.input_ids), device=index.device))
            self._exact.keep(window, start, index, result.state)
        last = text.reader.steered(start, result.state)
        objective.after(last)
        self.recorder.record_steered(objective, result.gradient_norms, has_history, self._rows[index])
        return last.logits

    def _history_lengths(self, index: Tensor) -> Tensor:
        """Return how many real positions lie before the last token of the samples in `index`."""
        return self.attention_mask[index, :-1].sum(1)

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
