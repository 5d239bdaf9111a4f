"""The attributes of a comparison: what steers to each, and how texts that show it are recognised.

A set is the paper's topics or sentiments, or a JSON file. It only names word lists and heads: `pplm` imports no
attribute models, so the caller builds an `Attribute` from each `AttributeSpec`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pplm.errors import InputError
from pplm.evaluation import Judge, word_share
from pplm.files.reading import parse_json, read_text
from pplm.interface import AttributeModel, weigh_attributes
from pplm.models.resources import HELD_OUT, data_path, shipped_names

SENTIMENTS = ("positive", "negative")
Sentiment = Literal["positive", "negative"]
_KEYS = ("bag", "avoid_bag", "discriminator", "held_out", "description", "sentiment")


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribute:
    """One attribute of a comparison.

    Attributes
    ----------
    models
        The attribute models that steer towards it, or (model, weight) pairs.
    bag_words
        The words and phrases that steer, counted as `pplm.evaluation.word_share` counts them; empty for none.
    held_out_words
        Words and phrases of the same topic that steering never saw, counted likewise; empty for none.
    sentiment
        The wanted sign of VADER's score; None where sentiment does not indicate the attribute.
    head
        A judge whose only column is the probability of the wanted class, by a head that did not steer.
    identity
        A JSON value that differs whenever `models` differ; a run is resumed only if it is unchanged. None takes the
        models' names and weights.

    """

    models: Sequence[AttributeModel | tuple[AttributeModel, float]] = ()
    bag_words: Collection[str] = frozenset()
    held_out_words: Collection[str] = frozenset()
    sentiment: Sentiment | None = None
    head: Judge | None = None
    identity: Any = None

    def __post_init__(self) -> None:
        """Refuse words that cannot measure anything; take the models' names and weights where no identity is given."""
        word_share([], [*self.bag_words, *self.held_out_words])
        steered = {word.lower() for word in self.bag_words}
        if both := sorted(word for word in self.held_out_words if word.lower() in steered):
            some = ", ".join(both[:3]) + (", ..." if both[3:] else "")
            raise InputError(
                f"held_out_words has words of the bag that steers ({len(both)}: {some}); leave them out: held-out "
                "words show how much of the topic there is beyond the bag's own words"
            )
        if self.identity is None:
            names = [{"name": one.name, "weight": one.weight} for one in weigh_attributes(self.models)]
            object.__setattr__(self, "identity", names)


@dataclass(frozen=True)
class AttributeSpec:
    """One attribute of a set, by the names of its word lists and heads; nothing is loaded.

    Attributes
    ----------
    bags, avoid_bags, discriminators
        As in `--bag`, `--avoid-bag` and `--discriminator`.
    held_out
        A file of words of the same topic that steering never sees; None for none.
    description
        For the similarity judge; None takes the shipped description or, without one, the attribute's name.
    sentiment
        The wanted sign of VADER's score; None where sentiment does not indicate the attribute.

    """

    bags: tuple[str, ...] = ()
    avoid_bags: tuple[str, ...] = ()
    discriminators: tuple[str, ...] = ()
    held_out: Path | None = None
    description: str | None = None
    sentiment: Sentiment | None = None


@dataclass(frozen=True)
class AttributeSet:
    """The attributes of one comparison, by name.

    Attributes
    ----------
    specs
        By name.
    paper
        The paper's table that they belong to ("topics", "sentiment"); None for attributes of your own.

    """

    specs: Mapping[str, AttributeSpec]
    paper: str | None

    @property
    def descriptions(self) -> dict[str, str]:
        """The descriptions that the set gives, by attribute."""
        return {name: spec.description for name, spec in self.specs.items() if spec.description}

    def prompts(self, path: Path | None = None) -> tuple[str, ...]:
        """Return the prompts in a file, one per line; None takes the paper's prompts for these attributes.

        Raises
        ------
        InputError
            If the file cannot be read or has no prompt.

        """
        path = path or data_path("prompts", "sentiment.txt" if self.paper == "sentiment" else "topics.txt")
        prompts = tuple(line.strip() for line in read_text("prompts", path).splitlines() if line.strip())
        if not prompts:
            raise InputError(f"prompts {path} holds no prompt; write one per line")
        return prompts


def attribute_set(text: str) -> AttributeSet:
    """Return a set by name: "topics", "sentiment", some of their members ("space,legal"), or a JSON file's path.

    Raises
    ------
    InputError
        If there is no such attribute or file, or the file is damaged.

    """
    topics, names = shipped_names(HELD_OUT, ".txt"), [name.strip() for name in text.split(",")]
    if text == "topics":
        names = topics
    elif text == "sentiment":
        names = list(SENTIMENTS)
    elif text.endswith(".json"):
        return AttributeSet(_read_specs(Path(text).expanduser()), None)
    if len(set(names)) != len(names):
        raise InputError(f"attributes {text} names an attribute twice; leave one out")
    if set(names) <= set(topics):
        words = {name: data_path(HELD_OUT, f"{name}.txt") for name in names}
        return AttributeSet({name: AttributeSpec((name,), held_out=path) for name, path in words.items()}, "topics")
    if set(names) <= set(SENTIMENTS):
        sides = [cast(Sentiment, name) for name in names]
        specs = [AttributeSpec(discriminators=(f"sentiment:{side}",), sentiment=side) for side in sides]
        return AttributeSet(dict(zip(names, specs, strict=True)), "sentiment")
    raise InputError(
        f"attributes {text!r} is neither topics ({', '.join(topics)}) nor sentiment ({', '.join(SENTIMENTS)}), nor "
        "some of either, nor a .json file"
    )


def _read_specs(path: Path) -> dict[str, AttributeSpec]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"attributes {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"attributes {path} is not JSON in UTF-8 ({error})") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f'attributes {path} must be an object {{"name": {{"bag": "words.txt", ...}}, ...}}')
    return {name: _spec(name, values, path) for name, values in content.items()}


def _spec(name: str, values: Any, path: Path) -> AttributeSpec:
    place = f"attributes {path}, attribute {name!r}"
    if not isinstance(values, dict):
        raise InputError(f"{place} must be an object with {', '.join(_KEYS)}; got {json.dumps(values)}")
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise InputError(f"{place} has {unknown[0]!r}; it may have {', '.join(_KEYS)}")
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("bag", "avoid_bag", "discriminator"):
        given = values.get(key, [])
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
            raise InputError(f"{place}: {key} must be a text or a list of texts; got {json.dumps(given)}")
        lists[key] = tuple(_beside(path, item) for item in given)
    if not any(lists.values()):
        raise InputError(f"{place} names nothing to steer with; give a bag, avoid_bag or discriminator")
    for key in ("held_out", "description"):
        if not isinstance(values.get(key, ""), str):
            raise InputError(f"{place}: {key} must be a text; got {json.dumps(values[key])}")
    if values.get("sentiment") not in (None, *SENTIMENTS):
        raise InputError(f"{place}: sentiment must be positive or negative; got {json.dumps(values['sentiment'])}")
    held_out = values.get("held_out")
    return AttributeSpec(
        bags=lists["bag"],
        avoid_bags=lists["avoid_bag"],
        discriminators=lists["discriminator"],
        held_out=None if held_out is None else Path(_beside(path, held_out)),
        description=values.get("description"),
        sentiment=values.get("sentiment"),
    )


def _beside(path: Path, text: str) -> str:
    """Return NAME[:LABEL][:WEIGHT], with the JSON file's folder put before NAME if such a file is in it."""
    parts = text.split(":")
    for end in range(len(parts), 0, -1):
        name = ":".join(parts[:end])
        if name and (path.parent / name).exists():
            return ":".join([str(path.parent / name), *parts[end:]])
    return text
