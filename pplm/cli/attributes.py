"""The options that name attribute models, and what is reported about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from attribute_models.naming import AttributeChoice, Weighted, bags_among, bind_named, name_attributes, read_bags
from pplm.cli.options import Command
from pplm.cli.outputs import FILE
from pplm.cli.screen import note
from pplm.errors import InputError
from pplm.files.progress import progress_bar


@dataclass(frozen=True, kw_only=True)
class AttributeOptions(AttributeChoice):
    """What the options ask for; `save_bag` is where a bag grown from seed words is written."""

    save_bag: Path | None = None


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
                     help="How much each word of a bag counts. listed: as its file has it; model: less, if the model "
                     "finds it frequent; FILE: more, if it is rare among the lines of this text file."),
        click.option("--bag-size", type=int, default=60, show_default=True, help="Words in a bag of --bag-from."),
        click.option("--bag-from", multiple=True, metavar="WORD,WORD...",
                     help="Steer towards a bag grown from seed words: their neighbours among the model's embeddings. "
                     "The bag is shown on stderr. Repeatable."),
        click.option("--avoid-words", multiple=True, metavar="WORD,WORD...",
                     help="Steer away from these words and phrases. Repeatable; all are one bag."),
        click.option("--words", multiple=True, metavar="WORD,WORD...",
                     help="Steer towards these words and phrases. Repeatable; all are one bag."),
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


def take_choice(options: dict[str, Any]) -> AttributeOptions:
    """Remove the attribute options from a command's; return what they ask for."""
    given = {field.name: options.pop(field.name) for field in fields(AttributeOptions)}
    return AttributeOptions(**given | {name: _comma_parts(given[name]) for name in ("words", "avoid_words")})


def head_options(command: Command) -> Command:
    """Add --labels and --any-model."""
    for option in (
        click.option("--any-model", is_flag=True,
                     help="Use a head on a model it was not trained on; the two must have the same width."),
        click.option("--labels", default=None, metavar="A,B,...",
                     help="Names of the classes of a published .pt head, in its order, separated by commas."),
    ):  # fmt: skip
        command = option(command)
    return command


def load_attributes(
    choice: AttributeOptions,
    model: Any,
    tokenizer: Any,
    *,
    speak: bool = True,
    said: set[str] | None = None,
    bind: bool = True,
) -> list[Weighted]:
    """Load what the user named; if `speak`, report on stderr what became of each bag's words, and obey --save-bag.

    Reports in `said` are not repeated, and new ones are added to it. Without `bind`, bags are read, but their words
    are not reported, and a bag of which no word can begin is not refused.
    """
    if choice.save_bag is not None and len(choice.bag_from) != 1:
        raise InputError(f"--save-bag {choice.save_bag} needs one --bag-from; got {len(choice.bag_from)}")
    with progress_bar("reading bags", "spellings", shown=speak) as on_progress:
        attributes = name_attributes(choice, model, tokenizer, on_progress=on_progress)
        grown = {bag.name: bag for bag in bags_among(attributes)}
        for seeds in choice.bag_from if speak else ():
            bag = grown["+".join(seed.strip() for seed in seeds.split(","))]
            note(f"bag from {seeds}: {' '.join(bag.words)}")
            if choice.save_bag is not None:
                bag.save(choice.save_bag)
        if not bind:
            read_bags(attributes, model, on_progress=on_progress)
            return attributes
        bound = [(one.model, one.weight) for one in bind_named(attributes, model, on_progress=on_progress)]
    if speak:  # only now, when no attribute can be refused any more
        reports = [bag.report() for bag in bags_among(bound)]
        for line in [str(report) for report in reports if report.long_words or report.unmatched]:
            if line not in (said or ()):
                note(line)
        if said is not None:
            said.update(map(str, reports))
    return bound


def _comma_parts(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.strip() for text in texts for word in text.split(","))
