"""Train a small GPT-2 from text: prepare or resume, train, validate, and write the finished folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pplm.errors import InputError
from pplm.models.loading import load_tokenizer
from pplm.models.processes import Processes
from pplm.pretraining.blocks import BlockOrder
from pplm.pretraining.card import card_text
from pplm.pretraining.corpus import encode_stream, read_corpus
from pplm.pretraining.loop import Run
from pplm.pretraining.model_setup import StartingPoint
from pplm.pretraining.request import BaseModelReport, BaseModelRequest
from pplm.pretraining.settings import Architecture, TrainingSettings
from pplm.pretraining.tokenizer import num_token_ids
from pplm.pretraining.training_folder import StepReport, TrainingFolder
from pplm.pretraining.validation import validate


def train_base_model(
    request: BaseModelRequest,
    output: str | Path,
    *,
    settings: TrainingSettings,
    architecture: Architecture | None = None,
    resume: bool = False,
    on_step: Callable[[StepReport], None] = lambda _: None,
    processes: Processes | None = None,
) -> BaseModelReport:
    """Train, and write a model folder with tokenizer, weights (float16) and card.

    Parameters
    ----------
    request
        Texts and starting point.
    output
        A new folder. The run's own files are in its subfolder `training/` and may be removed afterwards.
    settings
        Budget, learning rates, batches.
    architecture
        Shape of a new model; None takes the one that the embedded model began with. A model to continue has its own.
    resume
        Resume the run in `output` from its last checkpoint, or from its start if it has none yet. Only the request's
        `command`, `micro_batch_tokens` and `checkpoint_minutes` may differ from what the run began with.
    on_step
        Called after every optimizer step, in the main process.
    processes
        Processes that share every step; None is one process.

    Raises
    ------
    InputError
        If a text, model, setting or folder cannot be used, or the training diverges.

    """
    if architecture is not None and request.init:
        raise InputError(f"init {request.init} has its own architecture; leave out architecture")
    architecture = architecture or Architecture()
    processes = processes or Processes()
    folder = TrainingFolder(output)
    asked = {**asdict(request), **asdict(settings), **asdict(architecture)}
    processes.on_main((lambda: folder.check_same(asked)) if resume else folder.check_new)
    start = StartingPoint.load(request, architecture, goes_on=resume and folder.checkpoint.exists())
    settings.check_context(start.num_positions)
    if not resume:
        processes.on_main(lambda: _prepare(folder, request, settings, start, asked))
    tokenizer = load_tokenizer(folder.tokenizer)
    model = start.first_model(tokenizer, seed=settings.seed)
    precision = Run(model, folder, settings, processes).to_the_end(on_step)
    training, held_out = folder.tokens()
    model.half().float()  # rounded to float16, as they are stored
    validation = validate(
        model,
        held_out,
        characters=folder.request()["validation_characters"],
        num_positions=start.num_positions,
    )
    report = BaseModelReport(folder.output, validation, folder.log(), precision)
    if processes.main:
        model.half().save_pretrained(folder.output)
        tokenizer.save_pretrained(folder.output)
        card = card_text(request, settings, folder.request(), model, report, training_tokens=len(training))
        (folder.output / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    processes.wait()
    return report


def _prepare(
    folder: TrainingFolder,
    request: BaseModelRequest,
    settings: TrainingSettings,
    start: StartingPoint,
    asked: dict[str, Any],
) -> None:
    corpus = read_corpus(
        request.sources,
        validation=request.validation,
        text_column=request.text_column,
        config=request.config,
        split=request.split,
        validation_fraction=settings.validation_fraction,
    )
    tokenizer = start.first_tokenizer(corpus.training)
    dtype = np.uint16 if num_token_ids(tokenizer) <= np.iinfo(np.uint16).max + 1 else np.uint32
    training, validation = (
        encode_stream(tokenizer, texts).astype(dtype) for texts in (corpus.training, corpus.validation)
    )
    BlockOrder(training, num_positions=start.num_positions, seed=settings.seed)  # refuses a corpus that is too short
    counts = {
        "documents": len(corpus.training),
        "characters": sum(map(len, corpus.training)),
        "validation_documents": len(corpus.validation),
        "validation_characters": sum(map(len, corpus.validation)),
    }
    folder.prepare({**asked, **counts}, tokenizer, training, validation)
