"""A run's own folder: request, tokenizer, tokens, log and checkpoint; all that resuming after a crash needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pplm.errors import InputError
from pplm.files.atomic import atomic_file, check_replaceable

MAY_CHANGE = {"checkpoint_minutes", "command", "micro_batch_tokens"}
"""Settings that may differ in a resumed run: they change neither what is read nor what is learnt."""

_BEGINNINGS = {"tokenizer", "training.npy", "validation.npy"}
"""What a run that was stopped before the end of `prepare` may leave, besides the hidden folder of `atomic_file`."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step.

    Attributes
    ----------
    step, tokens, seconds
        Totals of steps, tokens and seconds of training up to and including this step.
    loss
        Mean over this step's tokens, in nats.
    lr_share
        The learning rates as a share of their peaks, 0 to 1.
    done
        Progress through the budget, 0 to 1.

    """

    step: int
    tokens: int
    seconds: float
    loss: float
    lr_share: float
    done: float


class TrainingFolder:
    """`<output>/training/`: everything that a resumed run needs."""

    def __init__(self, output: str | Path) -> None:
        self.output = Path(output).expanduser()
        self.path = self.output / "training"
        self.tokenizer = self.path / "tokenizer"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self._request = self.path / "request.json"
        self._log = self.path / "log.jsonl"

    def check_new(self) -> None:
        """Refuse a folder that holds anything but the beginnings of a run that was stopped before its first step.

        Raises
        ------
        InputError
            If it holds a run or other files.

        """
        if self._request.exists():
            raise InputError(f"output {self.output} holds a run already; pass --resume to go on, or a new folder")
        check_replaceable(self.output, {self.path.name})
        check_replaceable(self.path, {*_BEGINNINGS, *(path.name for path in self.path.glob(".*"))})

    def prepare(
        self, request: Mapping[str, Any], tokenizer: Any, training: NDArray[Any], validation: NDArray[Any]
    ) -> None:
        """Write tokenizer, tokens and request; the request comes last, because it marks the folder as complete.

        Raises
        ------
        InputError
            If they cannot be written.

        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tokenizer.save_pretrained(self.tokenizer)
            np.save(self.path / "training.npy", training, allow_pickle=False)
            np.save(self.path / "validation.npy", validation, allow_pickle=False)
            with atomic_file(self._request) as new:
                new.write_text(json.dumps(request, indent=2, ensure_ascii=False, default=str), encoding="utf-8")
        except OSError as error:
            raise InputError(f"output {self.output} cannot be written: {error.strerror or error}") from error

    def check_same(self, request: Mapping[str, Any]) -> None:
        """Refuse to resume where there is no run, or one with other settings than these.

        Raises
        ------
        InputError
            Naming the first setting that differs and both values.

        """
        if not self._request.exists():
            raise InputError(f"output {self.output} holds no run to resume; leave out --resume")
        before = self.request()
        for name, value in json.loads(json.dumps(request, default=str)).items():
            if name not in MAY_CHANGE and before.get(name) != value:
                raise InputError(
                    f"{name} was {before.get(name)!r} when this run began; got {value!r}: give it as it was"
                )

    def request(self) -> dict[str, Any]:
        """Return the request that `prepare` was given."""
        return dict(json.loads(self._request.read_text(encoding="utf-8")))

    def tokens(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the training and the validation stream (memory-mapped), (N,) token ids each."""
        names = ("training.npy", "validation.npy")
        training, validation = (np.load(self.path / name, mmap_mode="r", allow_pickle=False) for name in names)
        return training, validation

    def log(self) -> list[StepReport]:
        """Return the steps so far."""
        if not self._log.exists():
            return []
        return [StepReport(**json.loads(line)) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def cut_log(self, step: int) -> None:
        """Cut steps after `step`, and an incomplete last line, off the log: a resumed run takes those steps again."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True) if self._log.exists() else []
        whole = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        with atomic_file(self._log) as new:
            new.write_text("".join(whole), encoding="utf-8")

    def append(self, report: StepReport) -> None:
        """Add a step to the log."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report)) + "\n")
