"""From what the user writes on the command line to attribute models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from attribute_models import BagOfWords, Discriminator
from pplm.cli.options import Command
from pplm.errors import InputError
from pplm.interface import AttributeModel


def attribute_options(command: Command) -> Command:
    """Add --bag, --discriminator, --labels and --any-model."""
    command = head_options(command)
    for option in (
        click.option("--discriminator", "discriminators", multiple=True, metavar="PATH:LABEL",
                     help="Steer towards a class of a trained head: its folder or name, a colon and the label. "
                     "Repeatable."),
        click.option("--bag", "bags", multiple=True, metavar="NAME_OR_PATH",
                     help="Steer towards a bag of words: a shipped list (space, legal, ...) or a text file with one "
                     "word a line. Repeatable."),
    ):  # fmt: skip
        command = option(command)
    return command


def head_options(command: Command) -> Command:
    """Add --labels and --any-model."""
    for option in (
        click.option("--any-model", is_flag=True,
                     help="Use a head on a model it was not trained on; its width must fit all the same."),
        click.option("--labels", default=None, metavar="A,B,...",
                     help="Names of the classes of a published .pt head, in its order, with commas between."),
    ):  # fmt: skip
        command = option(command)
    return command


def load_attributes(
    bags: Sequence[str],
    discriminators: Sequence[str],
    tokenizer: Any,
    *,
    labels: str | None = None,
    any_model: bool = False,
) -> list[AttributeModel]:
    """Load what --bag and --discriminator name."""
    attributes: list[AttributeModel] = [BagOfWords.load(name, tokenizer) for name in bags]
    return attributes + [_discriminator(text, labels, any_model) for text in discriminators]


def load_head(name: str, label: str | None, *, labels: str | None = None, any_model: bool = False) -> Discriminator:
    """Load a head from its folder, by its shipped name, or from a published .pt file, which needs --labels."""
    if name.endswith(".pt"):
        return Discriminator.from_pt(name, [part.strip() for part in (labels or "").split(",") if part.strip()], label)
    return Discriminator.load(name, label, any_model=any_model)


def bag_words(attributes: Sequence[AttributeModel]) -> set[str]:
    """Return all words of the bags among the attribute models, lower-case."""
    return {word.lower() for bag in attributes if isinstance(bag, BagOfWords) for word in bag.words}


def _discriminator(text: str, labels: str | None, any_model: bool) -> Discriminator:
    name, colon, label = text.rpartition(":")
    if not colon or not name or not label:
        known = ", ".join(load_head(text, None, labels=labels).labels) if not colon else "..."
        raise InputError(f"--discriminator {text!r} names no label; write PATH:LABEL (labels: {known})")
    return load_head(name, label, labels=labels, any_model=any_model)
