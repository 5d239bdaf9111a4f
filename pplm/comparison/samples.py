"""The texts of an evaluation on disk: one JSON object per line, written as they are generated, so that none is lost.

A run that was killed leaves at most half a line behind, which is cut off when the run continues. Each of several
processes writes its own file; at the end they are merged in order into `samples.jsonl`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.files.lines import cut_half_line
from pplm.files.reading import parse_json
from pplm.text_scores import TextScore

SAMPLES_FILE = "samples.jsonl"
_PARTS = "samples.part*.jsonl"

SampleKey = tuple[str, int, int, int]
"""(arm, prompt index, pool, sample)."""


@dataclass(frozen=True)
class Sample:
    """One generated text.

    Attributes
    ----------
    arm
        The way of generating that made it, such as "unsteered" or "steered to space".
    prompt_index, pool, sample
        Which prompt, which of its pools, and which text of the pool; with the seed they determine the random stream.
    prompt, completion
        The text to continue, and what was added.
    tokens
        New tokens, including the one that ended the text.
    seconds
        This text's share of the time that its batch took.
    scores
        By attribute that it was ranked by: how good it is.
    readings
        This text's share of the rows that the model read for its batch (`pplm.passes`); None in files of
        earlier versions.

    """

    arm: str
    prompt_index: int
    pool: int
    sample: int
    prompt: str
    completion: str
    tokens: int
    seconds: float
    scores: dict[str, TextScore] = field(default_factory=dict)
    readings: float | None = None

    @property
    def key(self) -> SampleKey:
        """The text's name within a run."""
        return self.arm, self.prompt_index, self.pool, self.sample

    @property
    def text(self) -> str:
        """Prompt and completion together."""
        return self.prompt + self.completion


class SampleFiles:
    """The sample files in one output folder, as one of several processes sees them."""

    def __init__(self, folder: Path, *, index: int = 0, count: int = 1) -> None:
        """Take the folder, and the `index` of this process among `count` processes."""
        self.folder = folder
        self._own = folder / (SAMPLES_FILE if count == 1 else f"samples.part{index}.jsonl")

    def repair(self) -> None:
        """Cut off the incomplete last line that a killed run left; for the main process alone, before any reads.

        Raises
        ------
        InputError
            If a file cannot be written.

        """
        for path in self._files():
            with _readable_errors(path):
                cut_half_line(path)

    def read(self) -> dict[SampleKey, Sample]:
        """Return all texts on disk.

        Raises
        ------
        InputError
            If a line is damaged or of an earlier version, which it names, or a file cannot be read.

        """
        found: dict[SampleKey, Sample] = {}
        for path in self._files():
            with _readable_errors(path):
                lines = path.read_text(encoding="utf-8").split("\n")
            for number, line in enumerate(lines[:-1], start=1):
                sample = _sample(line, f"{path}, line {number}")
                found.setdefault(sample.key, sample)
        return found

    def append(self, samples: Iterable[Sample]) -> None:
        """Add texts to this process's file, and see that they are on disk."""
        with _readable_errors(self._own), self._own.open("a", encoding="utf-8", newline="\n") as file:
            _write(file, samples)

    def merge(self, samples: Sequence[Sample]) -> None:
        """Write these texts to `samples.jsonl` in this order, and remove the processes' own files."""
        whole = self.folder / SAMPLES_FILE
        with _readable_errors(whole):
            with atomic_file(whole) as new, new.open("w", encoding="utf-8", newline="\n") as file:
                _write(file, samples)
            for part in self.folder.glob(_PARTS):
                part.unlink()

    def _files(self) -> list[Path]:
        whole = self.folder / SAMPLES_FILE
        return [*([whole] if whole.is_file() else []), *sorted(self.folder.glob(_PARTS))]


def _write(file: IO[str], samples: Iterable[Sample]) -> None:
    for sample in samples:
        values = asdict(sample)
        values["scores"] = {name: _to_json(score) for name, score in sample.scores.items()}
        file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
    os.fsync(file.fileno())


def _sample(line: str, place: str) -> Sample:
    try:
        values = parse_json(line)
        earlier = any(not isinstance(score, dict) for score in values["scores"].values())
        sample = None if earlier else _from_values(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{place} is damaged ({error!r}); delete that line, and its text is generated again"
        ) from error
    if sample is None:
        raise InputError(
            f"{place} was scored by an earlier version of pplm, which did not keep each attribute model's own score "
            "and the fluency; choose another output"
        )
    return sample


def _from_values(values: dict[str, Any]) -> Sample:
    values = {**values, "scores": {name: _from_json(score) for name, score in values["scores"].items()}}
    asked = [item for item in fields(Sample) if item.name in values or item.default is MISSING]
    return Sample(**{item.name: values[item.name] for item in asked})


def _to_json(score: TextScore) -> dict[str, Any]:
    # JSON has no infinity: null is the score -inf of a text that cannot have the attribute at all.
    numbers = [value if math.isfinite(value) else None for value in (*score.attributes, score.fluency)]
    return {"attributes": numbers[:-1], "fluency": numbers[-1]}


def _from_json(value: dict[str, Any]) -> TextScore:
    def number(found: float | None) -> float:
        return -math.inf if found is None else float(found)

    if not isinstance(value["attributes"], list):
        raise TypeError("attributes is not a list")
    return TextScore(tuple(map(number, value["attributes"])), number(value["fluency"]))


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turn a file that cannot be read or written into an error the user can act on."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be used: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8; delete it or choose another output") from error
