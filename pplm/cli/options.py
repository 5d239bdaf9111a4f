"""Options that several commands share, so that they are spelt and explained once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import click

from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.models import EMBEDDED_MODEL

Command = Callable[..., Any]

device_option = click.option(
    "--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1, mps ..."
)


def device_options(command: Command) -> Command:
    """Add --device and --dtype."""
    for option in (
        click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32",
                     show_default=True, help="Number format of the weights in memory."),
        device_option,
    ):  # fmt: skip
        command = option(command)
    return command


def model_options(command: Command) -> Command:
    """Add --model, --device and --dtype."""
    return click.option(
        "--model",
        "model_name",
        default=EMBEDDED_MODEL,
        show_default=True,
        help="The embedded model, a hub id (openai-community/gpt2-medium), a folder or a .gguf file.",
    )(device_options(command))


def steering_options(command: Command) -> Command:
    """Add every field of `SteeringConfig` under its own name; not given means the preset's value."""
    kinds = get_type_hints(SteeringConfig)
    for field in reversed(fields(SteeringConfig)):
        name = "--" + field.name.replace("_", "-")
        kind, help_text = kinds[field.name], field.metadata["help"]
        if kind is bool:
            option = click.option(f"{name}/--no-{name[2:]}", default=None, help=help_text)
        elif choices := get_args(kind):
            option = click.option(name, type=click.Choice(choices), default=None, help=help_text)
        else:
            option = click.option(name, type=kind, default=None, help=help_text)
        command = option(command)
    return command


def given_steering(options: dict[str, Any]) -> dict[str, Any]:
    """Take the steering fields that the user gave out of a command's options."""
    taken = {field.name: options.pop(field.name) for field in fields(SteeringConfig)}
    return {name: value for name, value in taken.items() if value is not None}


def comma_list(kind: type) -> Callable[[click.Context, click.Parameter, str], tuple[Any, ...]]:
    """Return a callback for an option that takes several values of a kind with commas between."""

    def read(context: click.Context, option: click.Parameter, text: str) -> tuple[Any, ...]:  # noqa: ARG001
        try:
            return tuple(kind(part.strip()) for part in text.split(","))
        except ValueError:
            numbers = " whole numbers" if kind is int else ""
            raise InputError(f"{option.opts[0]} takes{numbers} with commas between; got {text!r}") from None

    return read
