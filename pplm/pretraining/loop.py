"""The loop of a training run, shared between processes.

What a step reads depends only on how much was read before (`blocks`), and everything else that changes is in the
checkpoint, so a killed run can be resumed as if nothing had happened.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from pplm.errors import InputError
from pplm.models.processes import Processes
from pplm.pretraining import schedule
from pplm.pretraining.blocks import BlockOrder, Blocks
from pplm.pretraining.checkpoint import Position, load_checkpoint, save_checkpoint
from pplm.pretraining.loss import LanguageModelLoss
from pplm.pretraining.optimizers import Optimizers
from pplm.pretraining.precision import DTYPES, faster_precision
from pplm.pretraining.settings import TrainingSettings
from pplm.pretraining.training_folder import StepReport, TrainingFolder

_PAUSE = 10
"""A step counts for at most this many times the mean: anything longer is a pause, such as a sleeping computer. The
first `_PAUSE` steps count in full."""


class Run:
    """A model in training until its budget is spent.

    Parameters
    ----------
    model
        The weights to start from; replaced by those of the folder's checkpoint if there is one.
    folder
        The folder of tokens, log and checkpoint.
    settings
        Budget, learning rates, batches.
    processes
        The processes that share the work.

    """

    def __init__(self, model: Any, folder: TrainingFolder, settings: TrainingSettings, processes: Processes) -> None:
        self.model, self.folder, self.settings, self.processes = model, folder, settings, processes
        self.num_positions = model.config.n_positions
        model.to(processes.device)  # before the optimizers are made: their state follows the weights' device
        self.order = BlockOrder(folder.tokens()[0], num_positions=self.num_positions, seed=settings.seed)
        self.optimizers = Optimizers(model, settings)
        self.position = Position(precision=settings.precision)
        if folder.checkpoint.exists():
            self.position = load_checkpoint(folder.checkpoint, model, self.optimizers)
        if processes.main:
            folder.cut_log(self.position.step)
        if self.position.precision == "auto":
            self.position = replace(self.position, precision=self._faster_precision())
        self.loss_of: Any = processes.average_gradients(LanguageModelLoss(model, DTYPES[self.position.precision]))

    def to_the_end(self, on_step: Callable[[StepReport], None]) -> str:
        """Take steps until the budget is spent, with a checkpoint now and then; return the number format.

        On Ctrl-C it first writes a checkpoint of the last whole step.

        Raises
        ------
        InputError
            If the loss is not finite, or a checkpoint cannot be written.

        """
        try:
            self._take_steps(on_step)
        except KeyboardInterrupt:
            self._save()
            raise
        self._save()
        return self.position.precision

    def _take_steps(self, on_step: Callable[[StepReport], None]) -> None:
        saved = self.position.seconds
        clock = time.perf_counter()
        while (done := self._done()) < 1:
            before, (tokens, spans, loss) = self.position, self._gradients(done)
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at step {before.step + 1}; start anew with a lower muon_lr and adamw_lr"
                )
            with _uninterrupted():  # weights, position and log must stay of the same step
                rate = self._update(done)
                took = time.perf_counter() - clock
                clock += took
                now = self.position = replace(
                    before,
                    step=before.step + 1,
                    tokens=before.tokens + tokens,
                    spans=before.spans + spans,
                    seconds=before.seconds + self._without_pause(took),
                )
                report = StepReport(now.step, now.tokens, round(now.seconds, 3), loss, rate, self._progress())
                if self.processes.main:
                    self.folder.append(report)
            if self.processes.main:
                on_step(report)
            if now.seconds - saved >= 60 * self.settings.checkpoint_minutes:
                self._save()
                saved = now.seconds

    def _gradients(self, done: float) -> tuple[int, int, float]:
        """Compute one step's gradients on all processes; return its numbers of tokens and spans, and the mean loss."""
        count = schedule.spans_per_step(self.settings, done=done, num_positions=self.num_positions)
        count = -(-count // self.processes.count) * self.processes.count
        length = schedule.block_length(self.settings, done=done, num_positions=self.num_positions)
        starts = self.order.spans(self.position.spans, count)
        step = self.order.blocks(starts, block_length=length, step=self.position.step)
        mine = step.rows(slice(self.processes.index, None, self.processes.count))
        tokens = step.input_ids.numel()
        # The data-parallel wrapper averages gradients over processes, but the loss is the mean over all their tokens.
        scale = self.processes.count / tokens
        total = torch.zeros((), device=self.processes.device)
        for part, last in self._micro_batches(mine, length):
            with nullcontext() if last or self.processes.count == 1 else self.loss_of.no_sync():
                loss = self.loss_of(part.input_ids, part.targets, part.position_ids)
                (loss * scale).backward()
            total += loss.detach()
        return tokens, count, self.processes.sum(total).item() / tokens

    def _update(self, done: float) -> float:
        """Update the weights, and return the learning rates' share of their peaks."""
        if self.settings.max_grad_norm:
            clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        rate = schedule.lr_share(self.settings, step=self.position.step, done=done)
        self.optimizers.step(rate)
        return rate

    def _without_pause(self, seconds: float) -> float:
        """Return the seconds that a step counts for: a pause must not use up a budget of minutes."""
        if self.position.step < _PAUSE:
            return seconds
        return min(seconds, _PAUSE * self.position.seconds / self.position.step)

    def _micro_batches(self, blocks: Blocks, length: int) -> Iterator[tuple[Blocks, bool]]:
        size = max(1, self.settings.micro_batch_tokens // length)
        rows = len(blocks.input_ids)
        for start in range(0, rows, size):
            yield blocks.rows(slice(start, start + size)).to(self.processes.device), start + size >= rows

    def _progress(self) -> float:
        return schedule.progress(self.settings, step=self.position.step, seconds=self.position.seconds)

    def _done(self) -> float:
        """Return the main process's progress, because the processes' clocks differ."""
        return float(self.processes.share(self._progress()))

    def _faster_precision(self) -> str:
        length = min(self.settings.block_length, self.num_positions)
        spans = max(1, self.settings.micro_batch_tokens // self.num_positions)
        blocks = self.order.blocks(self.order.spans(0, spans), block_length=length, step=0)
        return str(self.processes.share(faster_precision(self.model, blocks.to(self.processes.device))))

    def _save(self) -> None:
        if self.processes.main:
            save_checkpoint(self.folder.checkpoint, self.model, self.optimizers, self.position)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # interrupts never arrive elsewhere
        yield
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt
