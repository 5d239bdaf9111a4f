"""What a training run is asked for, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pplm.errors import InputError
from pplm.pretraining.training_folder import StepReport
from pplm.pretraining.validation import Validation


@dataclass(frozen=True, kw_only=True)
class BaseModelRequest:
    """What to train on and what to start from.

    Attributes
    ----------
    sources, validation
        Text files or data set ids; without `validation` some documents of `sources` are held out.
    text_column, config, split
        Column, configuration and split of data sets.
    init
        A GPT-2 to train further; None makes a new one.
    tokenizer
        A tokenizer to use; None trains one on the corpus.
    embeddings_from
        A model from whose token embeddings a new model's start; None starts them at random.
    command
        The command to show in the model card.

    Raises
    ------
    InputError
        If there is no source, or `init` is combined with `tokenizer` or `embeddings_from`, which it brings itself.

    """

    sources: tuple[str | Path, ...]
    validation: tuple[str | Path, ...] = ()
    text_column: str = "text"
    config: str | None = None
    split: str = "train"
    init: str | None = None
    tokenizer: str | None = None
    embeddings_from: str | None = None
    command: str = ""

    def __post_init__(self) -> None:
        for name in ("sources", "validation"):
            if not isinstance(getattr(self, name), tuple):
                raise InputError(f"{name} must be a tuple of names; got {getattr(self, name)!r}")
        if not self.sources:
            raise InputError("no source of text is given; name a text file or a data set id")
        for name in ("tokenizer", "embeddings_from"):
            if self.init and getattr(self, name):
                raise InputError(f"init {self.init} brings its own; leave out {name} ({getattr(self, name)})")


@dataclass(frozen=True)
class BaseModelReport:
    """A finished model.

    Attributes
    ----------
    output
        Its folder, in Hugging Face format.
    validation
        Its loss on held-out text, with the weights rounded as they are stored.
    steps
        Every optimizer step.
    precision
        The number format of the passes.

    """

    output: Path
    validation: Validation
    steps: list[StepReport]
    precision: str
