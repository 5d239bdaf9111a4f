"""A run's own folder: its request, tokenizer and tokens, its log and its checkpoint; enough to go on after a crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pplm.errors import InputError


@dataclass(frozen=True)
class StepReport:
    """One optimizer step.

    Attributes
    ----------
    step, tokens, seconds
        Steps, tokens and training seconds up to and including this step.
    loss
        Mean over this step's tokens, in nats.
    lr_share
        Share of the peak learning rates.
    done
        Progress through the budget, 0 to 1.

    """

    step: int
    tokens: int
    seconds: float
    loss: float
    lr_share: float
    done: float


class RunFolder:
    """`<output>/training/`: everything that a resumed run needs."""

    def __init__(self, output: str | Path) -> None:
        self.output = Path(output).expanduser()
        self.path = self.output / "training"
        self.tokenizer = self.path / "tokenizer"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self._request = self.path / "request.json"
        self._log = self.path / "log.jsonl"

    def check_new(self) -> None:
        """Refuse a folder that holds anything: a finished model or a run to resume.

        Raises
        ------
        InputError
            With the remedy for either.

        """
        if self._request.exists():
            raise InputError(f"output {self.output} holds a run already; pass --resume to go on, or a new folder")
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise InputError(f"output {self.output} exists and is not an empty folder; name a new one")

    def prepare(self, request: Mapping[str, Any], training: NDArray[Any], validation: NDArray[Any]) -> None:
        """Write tokens and request; the request last, because it marks the folder as complete."""
        self.path.mkdir(parents=True, exist_ok=True)
        np.save(self.path / "training.npy", training, allow_pickle=False)
        np.save(self.path / "validation.npy", validation, allow_pickle=False)
        self._request.write_text(json.dumps(request, indent=2, ensure_ascii=False), encoding="utf-8")

    def check_same(self, request: Mapping[str, Any]) -> None:
        """Refuse to resume a run that was asked for something else.

        Raises
        ------
        InputError
            With the setting, what it was and what it is.

        """
        if not self._request.exists():
            raise InputError(f"output {self.output} holds no run to resume; leave out --resume")
        before = self.request()
        for name, value in json.loads(json.dumps(request)).items():
            if before.get(name) != value:
                raise InputError(
                    f"{name} was {before.get(name)!r} when this run began; got {value!r}: give it as it was"
                )

    def request(self) -> dict[str, Any]:
        """Return what `prepare` was given."""
        return dict(json.loads(self._request.read_text(encoding="utf-8")))

    def tokens(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the training and the validation stream, read from disk as needed."""
        names = ("training.npy", "validation.npy")
        training, validation = (np.load(self.path / name, mmap_mode="r", allow_pickle=False) for name in names)
        return training, validation

    def log(self) -> list[StepReport]:
        """Return the steps so far."""
        if not self._log.exists():
            return []
        return [StepReport(**json.loads(line)) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def cut_log(self, step: int) -> None:
        """Forget steps after `step`: a resumed run takes them again."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)[:step] if self._log.exists() else []
        self._log.write_text("".join(lines), encoding="utf-8")

    def append(self, report: StepReport) -> None:
        """Add a step to the log."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report)) + "\n")
