"""`pplm benchmark`: what steering costs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import attribute_models  # its names, and torch with them, are imported at their first use
from pplm.attached import steering_presets
from pplm.cli.options import comma_list, device_option
from pplm.cli.outputs import FILE, check_outputs, overwrite_option, write_json
from pplm.cli.steering_options import given_steering, steering_line, steering_options
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.files.figures import check_plot
from pplm.files.progress import progress_bar
from pplm.files.tables import markdown_table

if TYPE_CHECKING:
    from pplm.benchmark import BenchmarkRow

BAG = "space"
_SEED = 0


def _bag(model: Any, tokenizer: Any) -> attribute_models.BagOfWords:
    """Return the shipped bag or, without a tokenizer, as many random tokens as it has words."""
    import torch

    if tokenizer is not None:
        return attribute_models.BagOfWords.load(BAG, tokenizer)
    size, vocabulary = len(attribute_models.read_word_list(BAG)), model.config.get_text_config().vocab_size
    ids = torch.randperm(vocabulary, generator=torch.Generator().manual_seed(_SEED))[:size]
    return attribute_models.BagOfWords.from_token_ids(ids.tolist(), vocabulary, name="random bag")


def _discriminator(model: Any, tokenizer: Any) -> attribute_models.Discriminator:  # noqa: ARG001 - a head needs no tokenizer
    """Return a head of two classes with random weights, of the model's width."""
    import torch

    width = model.get_input_embeddings().weight.shape[1]
    weight = torch.randn(2, width, generator=torch.Generator().manual_seed(_SEED)) / width**0.5
    return attribute_models.Discriminator.from_weights(weight, torch.zeros(2), ["a", "b"], "a", name="random head")


ATTRIBUTES: Mapping[str, Callable[[Any, Any], Any]] = {"bag": _bag, "discriminator": _discriminator}


@click.command("benchmark")
@click.option(
    "--model",
    "model_name",
    default="random:gpt2",
    show_default=True,
    help="random:gpt2 or random:gpt2-medium, which have the published size and random weights, or a model as in "
    "pplm generate: gpt2-mini, a hub id, a folder or a .gguf file.",
)
@device_option
@click.option(
    "--samples", default="1,4,16", show_default=True, callback=comma_list(int), help="Texts generated at once."
)
@click.option(
    "--prompt-tokens",
    default="10",
    show_default=True,
    callback=comma_list(int),
    help="Length of the random prompts, in tokens.",
)
@click.option(
    "--new-tokens",
    default="30",
    show_default=True,
    callback=comma_list(int),
    help="Length of the new texts, in tokens.",
)
@click.option(
    "--attributes",
    default="bag,discriminator",
    show_default=True,
    callback=comma_list(str),
    help=f"bag: the {BAG} bag, or random tokens for a random model; discriminator: a head with random weights.",
)
@click.option(
    "--dtype",
    "dtypes",
    default="float32",
    show_default=True,
    callback=comma_list(str),
    help="Number formats of the weights: float32, bfloat16, float16. With float32 among them, the others are also "
    "compared with it.",
)
@click.option("--repeats", type=int, default=3, show_default=True, help="Timed rounds; one untimed round comes first.")
@click.option("--json", "json_path", type=FILE, default=None, help="Write machine, settings and rows to this file.")
@click.option(
    "--plot", type=FILE, default=None, help='Draw the figure to this file (.png, .pdf, .svg); needs "pplm[plot]".'
)
@overwrite_option
@steering_options
def benchmark_command(
    model_name: str, device: str, json_path: Path | None, plot: Path | None, overwrite: bool, **options: Any
) -> None:
    """Measure the time of steered and of unsteered generation, with batches of the same size.

    --samples, --prompt-tokens, --new-tokens, --attributes and --dtype take several values, separated by commas; every
    combination is measured. Unsteered texts come from transformers' own generate. Steered ones use the settings that
    pplm generate uses by default, unless others are given. Times are elapsed times divided by new tokens and samples:
    the median of the rounds, with the lowest and the highest.
    """
    from pplm.benchmark import BenchmarkConfig, describe_machine, run_benchmark, steering_settings
    from pplm.benchmark.plot import plot_benchmark

    given = given_steering(options)
    config = BenchmarkConfig(preset=given.pop("preset"), steering=given, **options)
    for name in config.attributes:
        if name not in ATTRIBUTES:
            raise InputError(f"--attributes must be of {', '.join(ATTRIBUTES)}; got {name!r}")
    check_outputs({"--json": json_path, "--plot": plot}, overwrite=overwrite)
    if plot is not None:
        check_plot(plot)
    model, tokenizer = _load(model_name, device)
    steering = steering_settings(model, ATTRIBUTES, config, tokenizer=tokenizer)
    with progress_bar("measuring") as progress:
        rows = run_benchmark(model, ATTRIBUTES, config, tokenizer=tokenizer, progress=progress)
    for name, settings in steering.items():
        own = [ATTRIBUTES[name](model, tokenizer)]
        preset = SteeringConfig.preset_for(own, steering_presets(model), config.preset, **config.steering)
        click.echo(f"{name}, {steering_line(settings, preset)}", err=True)
    machine = describe_machine(model.device)
    click.echo(f"{model_name}, {', '.join(f'{name} {value}' for name, value in machine.items())}\n")
    for line in _table(rows):
        click.echo(line)
    if json_path is not None:
        write_json(
            "--json",
            json_path,
            {
                "model": model_name,
                "machine": machine,
                "settings": {
                    "repeats": config.repeats,
                    "seed": config.seed,
                    "top_k": config.top_k,
                    "steering": {name: asdict(settings) for name, settings in steering.items()},
                },
                "rows": [asdict(row) for row in rows],
            },
        )
    if plot is not None:
        plot_benchmark(rows, plot, title=f"{model_name}, {machine['processor']}, threads: {machine['threads']}")


def _load(name: str, device: str) -> tuple[Any, Any]:
    """Return a model in float32 and its tokenizer; a random model has none."""
    from pplm.benchmark import random_model
    from pplm.models.loading import load_model

    if name.startswith("random:"):
        return random_model(name, device=device, seed=_SEED), None
    return load_model(name, device=device)


def _table(rows: Sequence[BenchmarkRow]) -> Iterator[str]:
    """Yield the lines of a Markdown table and of its key; a column of ratios that would be empty is left out."""
    columns = {
        "attribute": lambda row: row.attribute,
        "dtype": lambda row: row.dtype,
        "samples": lambda row: str(row.samples),
        "prompt": lambda row: str(row.prompt_tokens),
        "new": lambda row: str(row.new_tokens),
        "unsteered ms": lambda row: _milliseconds(row, row.unsteered_seconds_per_token, row.unsteered_wall_seconds),
        "steered ms": lambda row: _milliseconds(row, row.steered_seconds_per_token, row.steered_wall_seconds),
        "ratio": lambda row: f"{row.ratio:.2f} ({row.ratio_range[0]:.2f} to {row.ratio_range[1]:.2f})",
        "to float32": lambda row: _number(row.ratio_to_float32),
        "to one sample": lambda row: _number(row.ratio_to_one_sample),
        "passes": lambda row: f"{row.passes_per_token:.2f}",
        "peak MB": lambda row: "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
    }
    if len({row.dtype for row in rows}) == 1 or all(row.ratio_to_float32 is None for row in rows):
        del columns["to float32"]
    if len({row.samples for row in rows}) == 1 or all(row.ratio_to_one_sample is None for row in rows):
        del columns["to one sample"]
    yield from markdown_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])
    yield ""
    yield "ms: milliseconds per token and sample. ratio: steered time over unsteered."
    yield "passes: through the model's body, forward and backward, per token. peak MB: beyond the weights."
    if "to float32" in columns:
        yield "to float32: steered time over that of unsteered texts in float32."
    if "to one sample" in columns:
        yield "to one sample: steered time over that of unsteered texts with one sample."


def _milliseconds(row: BenchmarkRow, median: float, wall_seconds: Sequence[float]) -> str:
    scale = 1000 / (row.new_tokens * row.samples)
    return f"{median * 1000:.1f} ({min(wall_seconds) * scale:.1f} to {max(wall_seconds) * scale:.1f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
