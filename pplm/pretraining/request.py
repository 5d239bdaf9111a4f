"""What a training run is asked for, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pplm.pretraining.run_folder import StepReport
from pplm.pretraining.validation import Validation


@dataclass(frozen=True, kw_only=True)
class BaseModelRequest:
    """What to train on and what to start from.

    Attributes
    ----------
    sources, validation
        Text files or data set ids; without `validation` some documents are held out.
    text_column, split
        Of data sets.
    init
        A GPT-2 to train further; None starts a new one.
    tokenizer
        A tokenizer to take; None trains one on the corpus.
    embeddings_from
        A model whose token embeddings a new one starts from.
    command
        What the model card gives as the command.

    """

    sources: tuple[str, ...]
    validation: tuple[str, ...] = ()
    text_column: str = "text"
    split: str = "train"
    init: str | None = None
    tokenizer: str | None = None
    embeddings_from: str | None = None
    command: str = ""


@dataclass(frozen=True)
class BaseModelReport:
    """A finished model.

    Attributes
    ----------
    output
        Its folder, in Hugging Face format.
    validation
        Its loss on held-out text.
    steps
        Every optimizer step.
    precision
        The number format of the passes.

    """

    output: Path
    validation: Validation
    steps: list[StepReport]
    precision: str
