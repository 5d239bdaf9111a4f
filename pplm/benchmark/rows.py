"""From measured seconds to the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from pplm.benchmark.config import Case


@dataclass
class Measured:
    """The measurements of one case: wall seconds by round, passes and peak memory of one run."""

    unsteered_seconds: list[float] = field(default_factory=list)
    steered_seconds: list[float] = field(default_factory=list)
    unsteered_passes: int = 0
    passes: int = 0
    unsteered_peak_memory_mb: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class BenchmarkRow:
    """One case, measured.

    Attributes
    ----------
    attribute, samples, prompt_tokens, new_tokens, dtype
        The case.
    unsteered_seconds_per_token, steered_seconds_per_token
        Median wall seconds of a run, divided by new tokens times samples.
    ratio
        Steered over unsteered seconds.
    ratio_range
        Lowest and highest ratio of the single rounds.
    ratio_to_float32
        Steered seconds over the unsteered ones of the same case in float32; None if that was not measured.
    ratio_to_one_sample
        Steered seconds per token and sample over the unsteered ones of the same case with one sample; None if that was
        not measured.
    passes_per_token, unsteered_passes_per_token
        Forward and backward passes through the model's body, counted alike, divided by new tokens. They include the
        pass that reads the prompt; a batch of any size takes one pass.
    peak_memory_mb, unsteered_peak_memory_mb
        Peak memory of a run above what was in use before it, so without the weights, in MB (10^6 bytes): this
        process's resident memory on a CPU, that of torch's allocator on CUDA, None elsewhere.
    unsteered_wall_seconds, steered_wall_seconds
        Seconds of every round; unsteered is the mean of the runs before and after the steered one.

    """

    attribute: str
    samples: int
    prompt_tokens: int
    new_tokens: int
    dtype: str
    unsteered_seconds_per_token: float
    steered_seconds_per_token: float
    ratio: float
    ratio_range: tuple[float, float]
    ratio_to_float32: float | None
    ratio_to_one_sample: float | None
    passes_per_token: float
    unsteered_passes_per_token: float
    peak_memory_mb: float | None
    unsteered_peak_memory_mb: float | None
    unsteered_wall_seconds: tuple[float, ...]
    steered_wall_seconds: tuple[float, ...]


def rows_of(measured: Sequence[tuple[Case, Measured]]) -> list[BenchmarkRow]:
    """Return one row per case, compared with the float32 and one-sample cases among them."""
    unsteered = {case: median(result.unsteered_seconds) / _tokens(case) for case, result in measured}
    return [_row(case, result, unsteered) for case, result in measured]


def _row(case: Case, result: Measured, unsteered: dict[Case, float]) -> BenchmarkRow:
    steered = median(result.steered_seconds) / _tokens(case)
    float32, one_sample = unsteered.get(replace(case, dtype="float32")), unsteered.get(replace(case, samples=1))
    pairs = zip(result.steered_seconds, result.unsteered_seconds, strict=True)
    ratios = [steered_seconds / unsteered_seconds for steered_seconds, unsteered_seconds in pairs]
    return BenchmarkRow(
        attribute=case.attribute,
        samples=case.samples,
        prompt_tokens=case.prompt_tokens,
        new_tokens=case.new_tokens,
        dtype=case.dtype,
        unsteered_seconds_per_token=unsteered[case],
        steered_seconds_per_token=steered,
        ratio=steered / unsteered[case],
        ratio_range=(min(ratios), max(ratios)),
        ratio_to_float32=None if float32 is None else steered / float32,
        ratio_to_one_sample=None if one_sample is None else steered / one_sample,
        passes_per_token=result.passes / case.new_tokens,
        unsteered_passes_per_token=result.unsteered_passes / case.new_tokens,
        peak_memory_mb=result.peak_memory_mb,
        unsteered_peak_memory_mb=result.unsteered_peak_memory_mb,
        unsteered_wall_seconds=tuple(result.unsteered_seconds),
        steered_wall_seconds=tuple(result.steered_seconds),
    )


def _tokens(case: Case) -> int:
    return case.samples * case.new_tokens
