"""Before each token, moves the recent positions of a batch's steered histories as the attribute models want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pplm.config import SteeringConfig
from pplm.interface import WeightedAttribute
from pplm.steering import Steered, steer, whole_norm
from pplm.text.exact_window import ExactWindow
from pplm.text.kv_cache import History
from pplm.text.objective import TextObjective, TextSoFar
from pplm.text.reader import LastTokenReader
from pplm.text.step_plan import StepPlan
from pplm.text.trace import TraceRecorder
from pplm.text.watch import SteeringWatch


@dataclass(frozen=True)
class Turn:
    """What one token's steps depend on, besides the texts themselves, for B texts.

    Attributes
    ----------
    lengths
        (B,): real positions before each text's last token.
    idle
        (A, B) bool: the attribute models that are content with a text as it is; None if there is no target.
    push
        (B,): a factor on the steps' length; None is 1.

    """

    lengths: Tensor
    idle: Tensor | None = None
    push: Tensor | None = None

    def select(self, index: Tensor) -> Turn:
        """Return the turn of the samples in `index`."""
        idle = None if self.idle is None else self.idle[:, index]
        push = None if self.push is None else self.push[index]
        return Turn(self.lengths[index], idle, push)


class HistoryMover:
    """What steering carries from token to token for B texts: gradient norms, exact windows and the trace's record.

    Parameters
    ----------
    attributes, steering
        A attribute models, and the settings.
    layers
        The layers that are moved.
    like
        (B, ...) on the device, in the model's number format.

    """

    def __init__(
        self, attributes: Sequence[WeightedAttribute], steering: SteeringConfig, layers: range, like: Tensor
    ) -> None:
        self.attributes, self.steering = attributes, steering
        self.rows = torch.arange(len(like), device=like.device)  # the rows of the whole batch that go on
        self._layers, self._plan = layers, StepPlan.of(steering, attributes)
        precision = torch.promote_types(like.dtype, torch.float32)
        steps = () if self._plan.steps is None else (len(attributes),)
        self._norms = torch.zeros(*steps, len(layers), len(like), dtype=precision, device=like.device)
        self._strongest = self._norms.new_zeros(len(like))  # norm of the longest gradient so far, for `skip_weak`
        self._untouched = torch.ones_like(self.rows, dtype=torch.bool)  # samples whose two histories are equal
        self._rounds = like.dtype != precision
        self._exact = ExactWindow()  # used with half-precision models
        # Whether an iteration needs the next token's logits: for the KL, for look-ahead or for an attribute model.
        ask = [getattr(attribute.model, "reads_logits", True) for attribute in attributes]
        self._reads_logits = steering.kl_scale > 0 or steering.horizon_length > 0 or any(ask)
        # (B,) `Steered.reach` of the last token's steps; NaN without the dial and where a sample was not moved
        self.reach = self._nothing()
        self.measures_steps = False
        self.step_length: Tensor | None = None  # (B,) of the last token's movement, NaN where a sample was not steered
        self.watch = SteeringWatch(attributes, len(like), like.device)
        names = tuple(attribute.name for attribute in attributes)
        self.recorder = TraceRecorder(names, steering.num_iterations, len(layers), len(like))

    def select(self, index: Tensor) -> None:
        """Go on with the samples in `index` alone."""
        self.rows, self._norms, self._strongest = self.rows[index], self._norms[..., index], self._strongest[index]
        self._untouched = self._untouched[index]
        self._exact.select(index)

    def rest(self, logits: Tensor) -> Tensor:
        """Move nothing before the next token; return its logits (B, V) as they are."""
        self.reach, self.step_length = self._nothing(), None
        self.recorder.record_unsteered(logits)
        return logits

    def move(self, text: TextSoFar, turn: Turn) -> Tensor:
        """Move the steered histories before the next token; return its logits (B, V) over them."""
        reader, everyone = text.reader, torch.arange(len(turn.lengths), device=turn.lengths.device)
        self.reach, self.step_length = self._nothing(), None
        if turn.idle is None and not self.steering.skips:
            return self._move(text, everyone, reader, turn)
        # One look at all samples decides which are steered; only those go through the iterations.
        wants = torch.ones_like(everyone, dtype=torch.bool) if turn.idle is None else ~turn.idle.all(0)
        logits = None
        if self.steering.skips:
            logits, strong = self._look(text, everyone, turn)
            wants = wants & strong
        wanting = everyone[wants]
        if len(wanting) == len(everyone):
            return self._move(text, everyone, reader, turn)
        if logits is None:
            logits = reader.steered(reader.length).logits
        if len(wanting) == 0:
            return self.rest(logits)
        some = text.select(wanting, self.steering.horizon_length)
        moved = self._move(some, wanting, reader, turn.select(wanting))
        reader.put(wanting, some.reader, self._start(reader))
        return logits.index_copy(0, wanting, moved)

    def _look(self, text: TextSoFar, everyone: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
        """Read the last token over the steered history as it is; return its logits (B, V) and who is steered, (B,)."""
        steering, reader = self.steering, text.reader
        objective = self._objective(text)
        if steering.skip_weak == 0:
            last = reader.steered(reader.length)
            loss = objective.attribute_loss(last)
            self.watch.losses(objective.acted, self.rows)
            return last.logits, loss >= steering.skip_below
        looked = self._take_steps(objective, self._window(reader, everyone), everyone, turn, still=True)
        self.watch.losses(objective.acted, self.rows)
        strength = torch.linalg.vector_norm(looked.gradient_norms[0], dim=0)
        self._strongest = torch.maximum(self._strongest, strength)
        strong = (strength > 0) & (strength >= steering.skip_weak * self._strongest)
        return objective.logits, strong & (objective.outcomes[0][0] >= steering.skip_below)

    def _move(self, text: TextSoFar, index: Tensor, whole: LastTokenReader, turn: Turn) -> Tensor:
        """Let the core move the window of the samples in `index`; return their logits over the moved history.

        `whole` reads the whole batch; `text` and `turn` are those of the samples in `index`.
        """
        start = self._start(text.reader)
        objective = self._objective(
            text, reads_logits=self._reads_logits, probes=self.watch.awaits_gradients, idle=turn.idle
        )
        window = self._window(text.reader, index)
        result = self._take_steps(objective, window, index, turn)
        if result.cosines is not None:
            objective.gradient_cosines = result.cosines
        self._norms = self._norms.index_copy(-1, index, result.norms)
        if result.untouched is not None:
            self._untouched = self._untouched.index_copy(0, index, result.untouched)
        has_history = turn.lengths > 0
        if result.reach is not None:
            self.reach = self.reach.index_copy(0, index, result.reach.float().masked_fill(~has_history, torch.nan))
        self.watch.losses(objective.acted if turn.idle is None else objective.acted | turn.idle, self.rows[index])
        self.watch.broke |= objective.broke
        if objective.gradient_norms is not None:
            to_lower = has_history & (objective.attribute_losses[0].nan_to_num() != 0)
            self.watch.gradients(objective.gradient_norms, to_lower, result.gradient_norms[0], self._layers.start)
        if self._rounds:
            everyone = self._window(whole, torch.arange(len(self.rows), device=index.device))
            self._exact.keep(everyone, start, index, result.state)
        if self.measures_steps:
            took_part = has_history if objective.reached is None else has_history & objective.reached
            self._measure(window, result.state, index, took_part)
        last = text.reader.steered(start, result.state)
        objective.after(last)
        self.recorder.record_steered(objective, result.gradient_norms, has_history, self.rows[index])
        return last.logits

    def _measure(self, before: History, after: History, index: Tensor, took_part: Tensor) -> None:
        """Measure how far the windows of the samples in `index` were moved, of those that took part, (B,) bool."""
        parts = [
            new - old for own, moved in zip(before, after, strict=True) for old, new in zip(own, moved, strict=True)
        ]
        length = whole_norm(parts).float().masked_fill(~took_part, torch.nan)
        self.step_length = self._nothing().index_copy(0, index, length)

    def _nothing(self) -> Tensor:
        """Return NaN for each sample, (B,): not measured."""
        return torch.full((len(self.rows),), torch.nan, device=self.rows.device)

    def _objective(self, text: TextSoFar, **flags: Any) -> TextObjective:
        flags["apart"] = self._plan.steps is not None
        return TextObjective(self.attributes, text, self._start(text.reader), self.steering.horizon_length, **flags)

    def _take_steps(
        self, objective: TextObjective, window: History, index: Tensor, turn: Turn, *, still: bool = False
    ) -> Steered:
        """Let the core move the window of the samples in `index`; `still` steps have length 0, just for gradients."""
        steering, steps, norms = self.steering, self._plan.steps, None if still else self._norms[..., index]
        if still:
            steering, steps = replace(steering, num_iterations=1), self._plan.still()
            steering = steering if steering.dialled else replace(steering, step_size=0.0)
        weights = self._plan.weights(turn.lengths, objective.text.reader.length)
        return steer(window, objective, steering, norms, steps=steps, weights=weights, push=turn.push,
                     untouched=self._untouched[index])  # fmt: skip

    def _start(self, reader: LastTokenReader) -> int:
        """Return the first position that steering moves."""
        return self._plan.start(reader.length)

    def _window(self, reader: LastTokenReader, index: Tensor) -> History:
        """Return the steered window of the samples in `index`, unrounded: in float32 at least, as steering left it."""
        start = self._start(reader)
        return self._exact.restore(reader.window(start), start, index)
