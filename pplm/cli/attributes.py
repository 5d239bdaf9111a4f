"""From what the user writes on the command line to attribute models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

import attribute_models  # imports its names, and torch, at their first use
from attribute_models.word_list import number
from pplm.checks import check_range
from pplm.cli.options import Command
from pplm.cli.outputs import FILE
from pplm.errors import InputError
from pplm.files.progress import OnProgress, progress_bar
from pplm.models.resources import local_path, shipped_names

if TYPE_CHECKING:
    from pplm.interface import AttributeModel

Weighted: TypeAlias = "tuple[AttributeModel, float]"
BAGS, HEADS = "bags_of_words", "discriminators"
"""Where shipped ones lie."""


@dataclass(frozen=True)
class AttributeChoice:
    """What the user asked for, as written."""

    bags: tuple[str, ...]
    avoid_bags: tuple[str, ...]
    bag_from: tuple[str, ...]
    bag_size: int
    bag_weights: str
    save_bag: Path | None
    discriminators: tuple[str, ...]
    labels: str | None
    any_model: bool

    @property
    def names_any(self) -> bool:
        """Whether anything is to be steered towards or away from."""
        return bool(self.bags or self.avoid_bags or self.bag_from or self.discriminators)


def attribute_options(command: Command) -> Command:
    """Add the options that name attribute models."""
    command = head_options(command)
    for option in (
        click.option("--discriminator", "discriminators", multiple=True, metavar="PATH:LABEL[:WEIGHT]",
                     help="Steer towards a class of a trained head: its folder, a folder of such folders (the "
                     "model's own is taken) or the name of a shipped one (sentiment, clickbait, subjectivity), a colon "
                     "and the label. Repeatable."),
        click.option("--save-bag", type=FILE, default=None,
                     help="Write the bag of --bag-from to this file, to be edited and used with --bag."),
        click.option("--bag-weights", default="listed", show_default=True, metavar="listed|model|FILE",
                     help="How much each word counts: as listed in the file, less where the model finds it frequent, "
                     "or by its rarity among the lines of a text file."),
        click.option("--bag-size", type=int, default=60, show_default=True, help="Words in a bag of --bag-from."),
        click.option("--bag-from", multiple=True, metavar="WORD,WORD...",
                     help="Steer towards a bag grown from seed words: their neighbours among the model's embeddings. "
                     "The bag is shown on stderr. Repeatable."),
        click.option("--avoid-bag", "avoid_bags", multiple=True, metavar="NAME_OR_PATH[:WEIGHT]",
                     help="Steer away from a bag of words: its words become rarer, not impossible. Where texts fall "
                     "apart, the steps are too long: stay near the preset's step size, and lower the weight "
                     "(legal:0.5). Repeatable."),
        click.option("--bag", "bags", multiple=True, metavar="NAME_OR_PATH[:WEIGHT]",
                     help="Steer towards a bag of words: a shipped list (space, legal, ...) or a text file with one "
                     "word or phrase per line. Of several attributes, the weight is a factor on each one's step; that "
                     "of a single one changes little, because its gradient is normalised. Repeatable."),
    ):  # fmt: skip
        command = option(command)
    return command


def take_choice(options: dict[str, Any]) -> AttributeChoice:
    """Take the attribute options out of a command's options."""
    return AttributeChoice(**{field.name: options.pop(field.name) for field in fields(AttributeChoice)})


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


def load_head(
    name: str, label: str | None, *, labels: str | None = None, any_model: bool = False
) -> attribute_models.Discriminator:
    """Load a head from its folder, by its shipped name, or from a published .pt file, which needs --labels."""
    if name.endswith(".pt"):
        return attribute_models.Discriminator.from_pt(
            name, [part.strip() for part in (labels or "").split(",") if part.strip()], label
        )
    return attribute_models.Discriminator.load(name, label, any_model=any_model)


def load_attributes(
    choice: AttributeChoice, model: Any, tokenizer: Any, *, speak: bool = True, said: set[str] | None = None
) -> list[Weighted]:
    """Load what the user named; if `speak`, report on stderr what became of each bag's words, and obey --save-bag.

    Reports in `said` are not repeated, and new ones are added to it.
    """
    from pplm.interface import bind_attributes, weigh_attributes

    attributes: list[Weighted] = []
    if choice.save_bag is not None and len(choice.bag_from) != 1:
        raise InputError(f"--save-bag {choice.save_bag} needs one --bag-from; got {len(choice.bag_from)}")
    with progress_bar("reading bags", "spellings", shown=speak) as on_progress:
        weigh = partial(_weigh, how=choice.bag_weights, model=model, tokenizer=tokenizer, on_progress=on_progress)
        for text, avoid in [*((text, False) for text in choice.bags), *((text, True) for text in choice.avoid_bags)]:
            name, weight = split_weight(text)
            bag = attribute_models.BagOfWords.from_words(
                weigh(attribute_models.read_word_list(name)), tokenizer, name=Path(name).stem
            )
            attributes.append((attribute_models.Avoid(bag) if avoid else bag, weight))
        for seeds in choice.bag_from:
            bag = attribute_models.BagOfWords.from_seeds(seeds.split(","), model, tokenizer, size=choice.bag_size)
            if choice.bag_weights != "listed":
                bag = attribute_models.BagOfWords.from_words(weigh(bag.weights), tokenizer, name=bag.name)
            if speak:
                click.echo(f"bag from {seeds}: {' '.join(bag.words)}", err=True)
            if speak and choice.save_bag is not None:
                bag.save(choice.save_bag)
            attributes.append((bag, 1.0))
        for bag in _bags(attributes):  # behind the bar; binding finds them read
            bag.for_model(model, avoided=True, on_progress=on_progress)
    attributes += [_discriminator(text, choice.labels, choice.any_model) for text in choice.discriminators]
    bound = [(attribute.model, attribute.weight) for attribute in bind_attributes(weigh_attributes(attributes), model)]
    if speak:  # once nothing can be wrong any more
        reports = [bag.report() for bag in _bags(bound)]
        for line in [str(report) for report in reports if report.long_words or report.unmatched]:
            if line not in (said or ()):
                click.echo(line, err=True)
        if said is not None:
            said.update(map(str, reports))
    return bound


def _bags(attributes: Sequence[Weighted]) -> list[attribute_models.BagOfWords]:
    """Return the bags among attribute models, avoided ones too."""
    models = [model.attribute if isinstance(model, attribute_models.Avoid) else model for model, _ in attributes]
    return [model for model in models if isinstance(model, attribute_models.BagOfWords)]


def bag_words(attributes: Sequence[Weighted]) -> set[str]:
    """Return all words of the bags among the attribute models, lower-case, phrases word by word."""
    bags = [model for model, _ in attributes if isinstance(model, attribute_models.BagOfWords)]
    return {word for bag in bags for entry in bag.words for word in entry.lower().split()}


def _weigh(
    words: Mapping[str, float], *, how: str, model: Any, tokenizer: Any, on_progress: OnProgress
) -> Mapping[str, float]:
    if how == "listed":
        return words
    if how == "model":
        return attribute_models.weights_by_probability(words, model, tokenizer, on_progress=on_progress)
    return attribute_models.weights_by_rarity(words, how)


def split_weight(text: str) -> tuple[str, float]:
    """Split NAME_OR_PATH:WEIGHT; a list without a weight weighs 1, and a path may hold colons."""
    name, colon, weight = text.rpartition(":")
    meant = _is_there(name, BAGS, ".txt") or not math.isnan(number(weight))
    if not colon or not meant or local_path(text) is not None:
        return text, 1.0
    return name, _weight(weight, text)


def _discriminator(text: str, labels: str | None, any_model: bool) -> Weighted:
    """Load PATH:LABEL or PATH:LABEL:WEIGHT; both may hold colons, and the longest path that exists comes first."""
    parts = text.split(":")
    splits = [(":".join(parts[:size]), ":".join(parts[size:])) for size in range(len(parts), 0, -1) if parts[0]]
    known = [split for split in splits if _is_there(split[0], HEADS)] or splits[1:2]
    heads = [(load_head(name, None, labels=labels, any_model=any_model), rest) for name, rest in known]
    for head, rest in heads:
        label, _, weight = rest.rpartition(":")
        if rest in head.labels:
            return head.towards(rest), 1.0
        if label in head.labels:
            return head.towards(label), _weight(weight, text)
    choice = f" (labels: {', '.join(heads[0][0].labels)})" if heads else ""
    raise InputError(f"--discriminator {text!r} names no label of a head; write PATH:LABEL{choice}")


def _is_there(name: str, folder: str, suffix: str = "") -> bool:
    return bool(name) and (local_path(name) is not None or name in shipped_names(folder, suffix))


def _weight(text: str, whole: str) -> float:
    weight = number(text)
    if not (math.isfinite(weight) and weight >= 0):
        raise InputError(f"the weight in {whole!r} must be a number of at least 0; got {text!r}")
    check_range(f"the weight in {whole!r}", weight, 0)
    return weight
