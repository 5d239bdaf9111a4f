"""Train a small GPT-2 from text: prepare or resume, the loop, validation, and the finished folder.

One plain loop over `accelerate`'s data parallelism. What a step reads is a function of its number (`blocks`), and
everything else that changes lies in the checkpoint, so a killed run goes on as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor

from pplm.pretraining import schedule
from pplm.pretraining.blocks import BlockOrder, Blocks
from pplm.pretraining.card import card_text
from pplm.pretraining.checkpoint import Position, load_checkpoint, save_checkpoint
from pplm.pretraining.corpus import encode_stream, read_corpus
from pplm.pretraining.loss import LanguageModelLoss
from pplm.pretraining.model_setup import first_model, first_tokenizer, load_tokenizer
from pplm.pretraining.optimizers import Optimizers
from pplm.pretraining.precision import DTYPES, faster_precision
from pplm.pretraining.request import BaseModelReport, BaseModelRequest
from pplm.pretraining.run_folder import RunFolder, StepReport
from pplm.pretraining.settings import Architecture, TrainingSettings
from pplm.pretraining.validation import validate


def train_base_model(
    request: BaseModelRequest,
    output: str | Path,
    *,
    settings: TrainingSettings,
    architecture: Architecture | None = None,
    resume: bool = False,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> BaseModelReport:
    """Train, and write a model folder with tokenizer, weights (float16) and card.

    Parameters
    ----------
    request
        Texts and starting point.
    output
        New folder. The run's own files are under `training/` in it and may be removed afterwards.
    settings
        Budget, learning rates, batches.
    architecture
        Of a new model; None takes the embedded model's.
    resume
        Go on with the run in `output`, with the same settings, from its last checkpoint.
    on_step
        Called after every optimizer step, on the main process.

    Raises
    ------
    InputError
        If a text, model, setting or folder cannot be used.

    """
    accelerator = Accelerator()
    folder = RunFolder(output)
    architecture = architecture or Architecture()
    asked = {**asdict(request), **asdict(settings), **asdict(architecture)}
    asked.pop("command")
    if resume:
        folder.check_same(asked)
    else:
        folder.check_new()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _prepare(folder, request, settings, architecture, asked)
    accelerator.wait_for_everyone()
    tokenizer = load_tokenizer(folder.tokenizer)
    model = first_model(
        tokenizer, architecture, init=request.init, embeddings_from=request.embeddings_from, seed=settings.seed
    )
    precision = _Run(model, folder, settings, accelerator).to_the_end(on_step)
    validation = validate(
        model,
        folder.tokens()[1],
        characters=folder.request()["validation_characters"],
        num_positions=model.config.n_positions,
    )
    report = BaseModelReport(folder.output, validation, folder.log(), precision)
    if accelerator.is_main_process:
        model.half().save_pretrained(folder.output)
        tokenizer.save_pretrained(folder.output)
        card = card_text(request, settings, folder.request(), model, report)
        (folder.output / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    accelerator.wait_for_everyone()
    return report


def _prepare(
    folder: RunFolder,
    request: BaseModelRequest,
    settings: TrainingSettings,
    architecture: Architecture,
    asked: dict[str, Any],
) -> None:
    corpus = read_corpus(
        request.sources,
        validation=request.validation,
        text_column=request.text_column,
        split=request.split,
        validation_fraction=settings.validation_fraction,
    )
    tokenizer = first_tokenizer(corpus.training, architecture, init=request.init, tokenizer=request.tokenizer)
    tokenizer.save_pretrained(folder.tokenizer)
    dtype = np.uint16 if len(tokenizer) <= np.iinfo(np.uint16).max + 1 else np.uint32
    training, validation = (
        encode_stream(tokenizer, texts).astype(dtype) for texts in (corpus.training, corpus.validation)
    )
    counts = {
        "documents": len(corpus.training),
        "characters": sum(map(len, corpus.training)),
        "validation_documents": len(corpus.validation),
        "validation_characters": sum(map(len, corpus.validation)),
    }
    folder.prepare({**asked, **counts}, training, validation)


class _Run:
    """A model on its way through a budget."""

    def __init__(self, model: Any, folder: RunFolder, settings: TrainingSettings, accelerator: Accelerator) -> None:
        self.model, self.folder, self.settings, self.accelerator = model, folder, settings, accelerator
        self.num_positions = model.config.n_positions
        self.order = BlockOrder(folder.tokens()[0], num_positions=self.num_positions, seed=settings.seed)
        self.optimizers = Optimizers(model, settings)
        self.position = Position(precision=settings.precision)
        if folder.checkpoint.exists():
            self.position = load_checkpoint(folder.checkpoint, model, self.optimizers)
        if accelerator.is_main_process:
            folder.cut_log(self.position.step)
        model.to(accelerator.device)
        if self.position.precision == "auto":
            self.position = replace(self.position, precision=self._faster_precision())
        self.loss_of = accelerator.prepare(LanguageModelLoss(model, DTYPES[self.position.precision]))

    def to_the_end(self, on_step: Callable[[StepReport], None]) -> str:
        """Take steps until the budget is spent, with a checkpoint now and then; return the number format."""
        began = time.perf_counter() - self.position.seconds
        saved = self.position.seconds
        while (done := self._done()) < 1:
            loss, rate = self._step(done)
            self.position = replace(self.position, seconds=time.perf_counter() - began)
            if self.accelerator.is_main_process:
                now = self.position
                report = StepReport(now.step, now.tokens, round(now.seconds, 3), loss, rate, self._progress())
                self.folder.append(report)
                on_step(report)
                if now.seconds - saved >= 60 * self.settings.checkpoint_minutes:
                    self._save()
                    saved = now.seconds
        if self.accelerator.is_main_process:
            self._save()
        return self.position.precision

    def _step(self, done: float) -> tuple[float, float]:
        """Read one step's blocks, update the weights, and return (mean loss, learning-rate share)."""
        count = schedule.spans_per_step(self.settings, done=done, num_positions=self.num_positions)
        count = -(-count // self.accelerator.num_processes) * self.accelerator.num_processes
        length = schedule.block_length(self.settings, done=done, num_positions=self.num_positions)
        starts = self.order.spans(self.position.spans, count)
        step = self.order.blocks(starts, block_length=length, step=self.position.step)
        mine = step.rows(slice(self.accelerator.process_index, None, self.accelerator.num_processes))
        tokens = step.input_ids.numel()
        # Data-parallel wrappers average gradients over processes; the loss is a mean over all of them together.
        scale = self.accelerator.num_processes / tokens
        total = torch.zeros((), device=self.accelerator.device)
        for part, last in self._micro_batches(mine, length):
            with nullcontext() if last else self.accelerator.no_sync(self.loss_of):
                loss = self.loss_of(part.input_ids, part.targets, part.position_ids)
                self.accelerator.backward(loss * scale)
            total += loss.detach()
        if self.settings.max_grad_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        rate = schedule.lr_share(self.settings, step=self.position.step, done=done)
        self.optimizers.step(rate)
        now = self.position
        self.position = replace(now, step=now.step + 1, tokens=now.tokens + tokens, spans=now.spans + count)
        summed: Tensor = self.accelerator.reduce(total)
        return summed.item() / tokens, rate

    def _micro_batches(self, blocks: Blocks, length: int) -> Iterator[tuple[Blocks, bool]]:
        size = max(1, self.settings.micro_batch_tokens // length)
        rows = len(blocks.input_ids)
        for start in range(0, rows, size):
            yield blocks.rows(slice(start, start + size)).to(self.accelerator.device), start + size >= rows

    def _progress(self) -> float:
        return schedule.progress(self.settings, step=self.position.step, seconds=self.position.seconds)

    def _done(self) -> float:
        """Return the main process's progress: clocks differ."""
        done = torch.tensor(self._progress(), dtype=torch.float64, device=self.accelerator.device)
        return float(broadcast(done)) if self.accelerator.num_processes > 1 else float(done)

    def _faster_precision(self) -> str:
        length = min(self.settings.block_length, self.num_positions)
        spans = max(1, self.settings.micro_batch_tokens // self.num_positions)
        blocks = self.order.blocks(self.order.spans(0, spans), block_length=length, step=0)
        found = [faster_precision(self.model, blocks.to(self.accelerator.device))]
        broadcast_object_list(found)
        return found[0]

    def _save(self) -> None:
        save_checkpoint(self.folder.checkpoint, self.model, self.optimizers, self.position)
