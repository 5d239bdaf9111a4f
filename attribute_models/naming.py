"""Turn plain text into attribute models: `space`, `space:0.5`, `sentiment:positive`, or words written out.

The command line, the web page and the server share it. A user of the command line may name files. A stranger may use
only the names in a table of `KnownNames`; text that a stranger sends never reaches the file system.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attribute_models  # imports its names, and torch, at their first use
from attribute_models.word_list import number
from pplm.checks import check_range
from pplm.errors import InputError
from pplm.files.progress import OnProgress
from pplm.models.resources import data_path, local_path, shipped_names
from pplm.short_repr import quoted

if TYPE_CHECKING:
    from pplm.interface import AttributeModel, WeightedAttribute

Weighted: TypeAlias = "tuple[AttributeModel, float]"
BAGS, HEADS = "bags_of_words", "discriminators"
"""The folders of shipped bags and heads under `data/`."""
INLINE = "words"
"""The name of a bag whose words are written out."""


@dataclass(frozen=True, kw_only=True)
class AttributeChoice:
    """What the user asked for, as written.

    Attributes
    ----------
    bags, avoid_bags
        `NAME_OR_PATH[:WEIGHT]` of bags to steer towards and away from.
    words, avoid_words
        Words written out: all of `words` make one bag, all of `avoid_words` another.
    bag_from
        Items of comma-separated seed words; each item grows one bag.
    bag_size, bag_weights
        Words in a grown bag; how the words of all bags are weighed: "listed", "model" or the path of a text file.
    discriminators
        `NAME_OR_PATH:LABEL[:WEIGHT]` of heads.
    labels, any_model
        Comma-separated class names of a published `.pt` head; whether to accept heads made for other models.

    """

    bags: tuple[str, ...] = ()
    avoid_bags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    avoid_words: tuple[str, ...] = ()
    bag_from: tuple[str, ...] = ()
    bag_size: int = 60
    bag_weights: str = "listed"
    discriminators: tuple[str, ...] = ()
    labels: str | None = None
    any_model: bool = False

    @property
    def names_any(self) -> bool:
        """Whether anything is to be steered towards or away from."""
        named = (self.bags, self.avoid_bags, self.words, self.avoid_words, self.bag_from, self.discriminators)
        return any(named)


@dataclass(frozen=True)
class KnownNames:
    """The only names that strangers may use, and the files and folders behind them.

    Attributes
    ----------
    bags, heads
        Paths of word lists and of head folders, by name.

    """

    bags: Mapping[str, Path] = field(default_factory=dict)
    heads: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def shipped(cls) -> KnownNames:
        """Return the names of everything that ships."""
        bags = {name: data_path(BAGS, f"{name}.txt") for name in shipped_names(BAGS, ".txt")}
        return cls(bags, {name: data_path(HEADS, name) for name in shipped_names(HEADS)})

    def with_bag(self, name: str, path: Path) -> KnownNames:
        """Return these names plus one for the operator's own word list.

        Raises
        ------
        InputError
            If the name is taken or holds a colon, or the file does not exist.

        """
        _check_new(name, self.bags, "word list", path, path.is_file())
        return replace(self, bags={**self.bags, name: path})

    def with_head(self, name: str, path: Path) -> KnownNames:
        """Return these names plus one for the operator's own head: its folder, or a folder of several models' heads.

        Raises
        ------
        InputError
            If the name is taken or holds a colon, or the folder does not exist.

        """
        _check_new(name, self.heads, "head", path, path.is_dir())
        return replace(self, heads={**self.heads, name: path})


def name_attributes(
    choice: AttributeChoice,
    model: Any,
    tokenizer: Any,
    *,
    known: KnownNames | None = None,
    on_progress: OnProgress | None = None,
) -> list[Weighted]:
    """Return what was asked for, not bound to the model: bags, avoided bags, words, avoided words, grown bags, heads.

    Parameters
    ----------
    choice
        What was asked for.
    model, tokenizer
        The language model to be steered.
    known
        The only names that are accepted; None accepts shipped names and paths.
    on_progress
        Called with how many spellings have been read and how many there are.

    Raises
    ------
    InputError
        If something does not exist or cannot be read, or a weight or label is wrong; with `known`, also if a name is
        not among them, or labels or a file of weights are given.

    """
    if known is not None and (choice.bag_weights not in ("listed", "model") or choice.labels is not None):
        raise InputError("words can be weighed as listed or by the model here; leave out files of weights, and labels")
    weigh = partial(_weigh, how=choice.bag_weights, model=model, tokenizer=tokenizer, on_progress=on_progress)
    bag = partial(attribute_models.BagOfWords.from_words, tokenizer=tokenizer)
    attributes: list[Weighted] = []
    for texts, avoid in ((choice.bags, False), (choice.avoid_bags, True)):
        for text in texts:
            name, weight = split_weight(text, known)
            path, shown = (name, Path(name).stem) if known is None else (known.bags[name], name)
            attributes.append((_turned(bag(weigh(attribute_models.read_word_list(path)), name=shown), avoid), weight))
    for words, avoid in ((choice.words, False), (choice.avoid_words, True)):
        if words:
            attributes.append((_turned(bag(weigh(dict.fromkeys(words, 1.0)), name=INLINE), avoid), 1.0))
    for seeds in choice.bag_from:
        grown = attribute_models.BagOfWords.from_seeds(seeds.split(","), model, tokenizer, size=choice.bag_size)
        if choice.bag_weights != "listed":
            grown = bag(weigh(grown.weights), name=grown.name)
        attributes.append((grown, 1.0))
    return attributes + [_discriminator(text, choice, known) for text in choice.discriminators]


def bind_named(
    attributes: Sequence[Weighted], model: Any, *, on_progress: OnProgress | None = None
) -> tuple[WeightedAttribute, ...]:
    """Adapt named attributes to the language model, reading their bags' spellings.

    Raises
    ------
    InputError
        If one of them refuses the model.

    """
    from pplm.interface import bind_attributes, weigh_attributes

    read_bags(attributes, model, on_progress=on_progress)  # binding finds them read
    return bind_attributes(weigh_attributes(attributes), model)


def read_bags(attributes: Sequence[Weighted], model: Any, *, on_progress: OnProgress | None = None) -> None:
    """Let the language model read the spellings of all bags, including bags none of whose words steering can begin."""
    for bag in bags_among(attributes):
        bag.for_model(model, avoided=True, on_progress=on_progress)


def bags_among(attributes: Sequence[Weighted]) -> list[attribute_models.BagOfWords]:
    """Return the bags among attribute models, avoided ones too."""
    models = [model.attribute if isinstance(model, attribute_models.Avoid) else model for model, _ in attributes]
    return [model for model in models if isinstance(model, attribute_models.BagOfWords)]


def bag_words(attributes: Sequence[Weighted]) -> set[str]:
    """Return all words of the bags to steer towards, in lower case; phrases are split into words."""
    bags = [model for model, _ in attributes if isinstance(model, attribute_models.BagOfWords)]
    return {word for bag in bags for entry in bag.words for word in entry.lower().split()}


def load_head(
    name: str | Path, label: str | None, *, labels: str | None = None, any_model: bool = False
) -> attribute_models.Discriminator:
    """Load a head from its folder, by its shipped name, or from a published .pt file, which needs `labels`."""
    if str(name).endswith(".pt"):
        return attribute_models.Discriminator.from_pt(
            name, [part.strip() for part in (labels or "").split(",") if part.strip()], label
        )
    return attribute_models.Discriminator.load(name, label, any_model=any_model)


def split_weight(text: str, known: KnownNames | None = None) -> tuple[str, float]:
    """Split NAME_OR_PATH:WEIGHT; the weight is 1 where none is given, and a path may contain colons.

    Raises
    ------
    InputError
        If the weight is not a number of at least 0; with `known`, if the name is not among its bags.

    """
    name, colon, weight = text.rpartition(":")
    if known is not None:
        if text in known.bags:
            return text, 1.0
        if name in known.bags:
            return name, _weight(weight, text)
        raise _unknown("bag of words", text, known.bags)
    meant = _is_there(name, BAGS, ".txt") or not math.isnan(number(weight))
    if not colon or not meant or local_path(text) is not None:
        return text, 1.0
    return name, _weight(weight, text)


def _discriminator(text: str, choice: AttributeChoice, known: KnownNames | None) -> Weighted:
    """Load PATH:LABEL or PATH:LABEL:WEIGHT; both may contain colons, and the longest existing path is tried first."""
    parts = text.split(":")
    splits = [(":".join(parts[:size]), ":".join(parts[size:])) for size in range(len(parts), 0, -1) if parts[0]]
    load: Callable[[str], attribute_models.Discriminator]
    if known is None:
        found = [split for split in splits if _is_there(split[0], HEADS)] or splits[1:2]
        load = partial(load_head, label=None, labels=choice.labels, any_model=choice.any_model)
    else:
        found = [split for split in splits if split[0] in known.heads]
        if not found:
            raise _unknown("discriminator", text, known.heads)

        def load(name: str) -> attribute_models.Discriminator:
            return replace(load_head(known.heads[name], None, any_model=choice.any_model), name=name)

    heads = [(load(name), rest) for name, rest in found]
    for head, rest in heads:
        label, _, weight = rest.rpartition(":")
        if rest in head.labels:
            return head.towards(rest), 1.0
        if label in head.labels:
            return head.towards(label), _weight(weight, text)
    labels = f" (labels: {', '.join(heads[0][0].labels)})" if heads else ""
    form = "PATH" if known is None else "NAME"
    raise InputError(f"discriminator {quoted(text)} names no label of a head; write {form}:LABEL[:WEIGHT]{labels}")


def _turned(bag: attribute_models.BagOfWords, avoid: bool) -> AttributeModel:
    return attribute_models.Avoid(bag) if avoid else bag


def _weigh(
    words: Mapping[str, float], *, how: str, model: Any, tokenizer: Any, on_progress: OnProgress | None
) -> Mapping[str, float]:
    if how == "listed":
        return words
    if how == "model":
        return attribute_models.weights_by_probability(words, model, tokenizer, on_progress=on_progress)
    return attribute_models.weights_by_rarity(words, how)


def _unknown(what: str, text: str, names: Collection[str]) -> InputError:
    choices = ", ".join(sorted(names)) or "none"
    return InputError(f"{what} {quoted(text)} is not available here; choose one of {choices}")


def _check_new(name: str, taken: Collection[str], what: str, path: Path, is_there: bool) -> None:
    if not name.strip() or ":" in name:
        raise InputError(f"{what} {name!r}: a name must be text without a colon; choose another")
    if name in taken:
        raise InputError(f"{what} {name!r} has a name that is taken; choose another")
    if not is_there:
        raise InputError(f"{what} {name!r}: {path} does not exist; correct the path")


def _is_there(name: str, folder: str, suffix: str = "") -> bool:
    return bool(name) and (local_path(name) is not None or name in shipped_names(folder, suffix))


def _weight(text: str, whole: str) -> float:
    weight = number(text)
    if not (math.isfinite(weight) and weight >= 0):
        raise InputError(f"the weight in {whole!r} must be a number of at least 0; got {text!r}")
    check_range(f"the weight in {whole!r}", weight, 0)
    return weight
