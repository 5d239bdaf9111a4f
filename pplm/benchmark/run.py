"""Steered against unsteered: seconds, passes and memory, measured side by side.

Every case first runs once untimed, which warms it up, counts its passes and measures its memory. Then come rounds: in
each, every case's steered run stands between two unsteered ones, and is compared with their mean, so that a machine
that is slow for a while slows down both. All cases take part in every round, so that rows can be compared with each
other too.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from pplm.attached import steering_presets
from pplm.batching import out_of_memory
from pplm.benchmark.config import BenchmarkConfig, Case
from pplm.benchmark.memory import peak_memory_mb
from pplm.benchmark.rows import BenchmarkRow, Measured, rows_of
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.files.progress import OnProgress
from pplm.interface import AttributeModel, bind_attributes, weigh_attributes
from pplm.passes import count_passes
from pplm.seeds import torch_seed
from pplm.text.decoding import steered_decoding
from pplm.text.limits import check_length

AttributeFactory = Callable[[Any, Any], AttributeModel]
"""Makes an attribute model for a language model and its tokenizer; None stands for a model without one."""

_FIRST_TOKENS = 2
"""Length of the very first run, in which libraries do what they set up once per process."""


def run_benchmark(
    model: Any,
    attributes: Mapping[str, AttributeFactory],
    config: BenchmarkConfig | None = None,
    *,
    tokenizer: Any = None,
    progress: OnProgress | None = None,
) -> list[BenchmarkRow]:
    """Measure every combination of a benchmark's lists.

    Unsteered runs are transformers' own `model.generate`, steered ones the same call with `custom_generate`; both write
    exactly `new_tokens` tokens after the same random prompts. The caller's random state is left as it was.

    Parameters
    ----------
    model
        As `load_model` returns it; it is converted to each number format and left as it was.
    attributes
        By name, including all names in `config.attributes`: what makes the attribute model.
    config
        What to measure; None takes the defaults.
    tokenizer
        Passed to what makes the attribute models.
    progress
        Called before each warm-up and each timed run with the number of finished ones, that of all, and the case.

    Returns
    -------
    list of BenchmarkRow
        In the order of `config.cases()`.

    Raises
    ------
    InputError
        If a case does not fit the model's positions, or an attribute is unknown.

    """
    config = config or BenchmarkConfig()
    for name in config.attributes:
        if name not in attributes:
            raise InputError(f"attributes must be of {', '.join(attributes)}; got {name!r}")
    settings = steering_settings(model, attributes, config, tokenizer=tokenizer)
    for case in config.cases():
        total, horizon = case.prompt_tokens + case.new_tokens, settings[case.attribute].horizon_length
        check_length(model, case.prompt_tokens, total, horizon)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        runs = _prepare(model, attributes, settings, config, tokenizer)
        return _measure(runs, config, progress or (lambda done, total, case: None))  # noqa: ARG005


def steering_settings(
    model: Any, attributes: Mapping[str, AttributeFactory], config: BenchmarkConfig, *, tokenizer: Any = None
) -> dict[str, SteeringConfig]:
    """Return the settings of each attribute: the preset for its kind, with the benchmark's own fields replaced."""
    given = {"presets": steering_presets(model), "preset": config.preset, **config.steering}
    return {
        name: SteeringConfig.for_attributes([attributes[name](model, tokenizer)], **given) for name in config.attributes
    }


def in_dtype(model: Any, dtype: str) -> Any:
    """Return a copy of a model with its weights in a number format, or the model itself if it is in that format."""
    kind = getattr(torch, dtype)
    if model.dtype == kind:
        return model
    copy = deepcopy(model)
    copy.config.dtype = kind
    for parameter in copy.parameters():  # not `.to`, which would round buffers that loading leaves in float32
        parameter.data = parameter.data.to(kind)
    return copy


@dataclass
class _Run:
    """A case, and everything needed to run it."""

    case: Case
    model: Any
    prompts: Tensor
    loop: Any
    top_k: int
    measured: Measured = field(default_factory=Measured)

    def unsteered(self) -> None:
        """Write the texts with transformers alone."""
        self._generate(self.case.new_tokens)

    def steered(self) -> None:
        """Write the texts with steering."""
        self._generate(self.case.new_tokens, custom_generate=self.loop)

    def first(self) -> None:
        """Write a few tokens both ways, so that one-time set-up is done."""
        new_tokens = min(_FIRST_TOKENS, self.case.new_tokens)
        self._generate(new_tokens)
        self._generate(new_tokens, custom_generate=self.loop)

    def _generate(self, new_tokens: int, **arguments: Any) -> None:
        try:
            output = self.model.generate(
                self.prompts,
                attention_mask=torch.ones_like(self.prompts),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                do_sample=True,
                top_k=self.top_k,
                pad_token_id=0,  # there is no padding, but transformers asks for a token
                **arguments,
            )
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise InputError(f"{self.case} does not fit into memory; lower samples or the number of tokens") from error
        written = output.shape[1] - self.prompts.shape[1]
        if written != new_tokens:
            raise InputError(
                f"the model stopped after {written} of {new_tokens} new tokens, so its time cannot be compared; remove "
                "what stops it from its generation config"
            )


def _prepare(
    model: Any,
    attributes: Mapping[str, AttributeFactory],
    settings: Mapping[str, SteeringConfig],
    config: BenchmarkConfig,
    tokenizer: Any,
) -> list[_Run]:
    """Make the runs of all cases; they share one model per number format, and one loop per attribute and model."""
    models = {dtype: in_dtype(model, dtype) for dtype in config.dtypes}
    loops = {}
    for name, dtype in product(config.attributes, config.dtypes):
        # Bound here: a bag runs the model once to see how its words continue, which is no part of a token's cost.
        bound = bind_attributes(weigh_attributes([attributes[name](model, tokenizer)]), models[dtype])
        loops[name, dtype] = steered_decoding([a.model for a in bound], settings[name], seed=config.seed)
    runs = []
    for case in config.cases():
        loop, prompts = loops[case.attribute, case.dtype], _prompts(case, model, config.seed)
        runs.append(_Run(case, models[case.dtype], prompts, loop, config.top_k))
    return runs


def _prompts(case: Case, model: Any, seed: int) -> Tensor:
    """Return (B, T) random token ids, the same for all attributes and number formats."""
    generator = torch.Generator().manual_seed(torch_seed(seed))
    size = (case.samples, case.prompt_tokens)
    return torch.randint(model.config.get_text_config().vocab_size, size, generator=generator).to(model.device)


def _measure(runs: Sequence[_Run], config: BenchmarkConfig, progress: OnProgress) -> list[BenchmarkRow]:
    total, done = len(runs) * (1 + config.repeats), 0
    for dtype in config.dtypes:
        next(run for run in runs if run.case.dtype == dtype).first()
    for run in runs:
        progress(done, total, f"warm-up: {run.case}")
        _warm_up(run)
        done += 1
    for repeat in range(config.repeats):
        for run in runs:
            progress(done, total, f"round {repeat + 1}: {run.case}")
            _time(run)
            done += 1
    return rows_of([(run.case, run.measured) for run in runs])


def _warm_up(run: _Run) -> None:
    """Run a case both ways untimed, counting passes and measuring memory."""
    measured, device = run.measured, run.model.device
    with count_passes(run.model) as passes:
        measured.unsteered_peak_memory_mb = peak_memory_mb(run.unsteered, device)
    measured.unsteered_passes = passes.total
    with count_passes(run.model) as passes:
        measured.peak_memory_mb = peak_memory_mb(run.steered, device)
    measured.passes = passes.total


def _time(run: _Run) -> None:
    device = run.model.device
    gc.collect()  # collecting what earlier runs left must not fall into the timed ones
    before = _seconds(run.unsteered, device)
    run.measured.steered_seconds.append(_seconds(run.steered, device))
    run.measured.unsteered_seconds.append((before + _seconds(run.unsteered, device)) / 2)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Return the wall seconds of some work, including what the device still computes when the call returns."""
    _wait_for(device)
    start = perf_counter()
    work()
    _wait_for(device)
    return perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
