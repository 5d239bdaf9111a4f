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
    """Add --bag and --discriminator."""
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


def load_attributes(bags: Sequence[str], discriminators: Sequence[str], tokenizer: Any) -> list[AttributeModel]:
    """Load what --bag and --discriminator name."""
    return [BagOfWords.load(name, tokenizer) for name in bags] + [_discriminator(text) for text in discriminators]


def bag_words(attributes: Sequence[AttributeModel]) -> set[str]:
    """Return all words of the bags among the attribute models, lower-case."""
    return {word.lower() for bag in attributes if isinstance(bag, BagOfWords) for word in bag.words}


def _discriminator(text: str) -> Discriminator:
    path, colon, label = text.rpartition(":")
    if not colon or not path or not label:
        labels = ", ".join(Discriminator.load(text).labels) if not colon else "..."
        raise InputError(f"--discriminator {text!r} names no label; write PATH:LABEL (labels: {labels})")
    return Discriminator.load(path, label)
