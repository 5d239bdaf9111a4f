"""Which attributes are evaluated, and how it is told whether a text has them: the paper's, or the user's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from attribute_models import Avoid, BagOfWords, Discriminator, classify_texts, read_word_list
from pplm.cli.attributes import AttributeChoice, Weighted, bag_words, load_attributes
from pplm.comparison.measures import Wanted
from pplm.errors import InputError
from pplm.evaluation import HeadJudge
from pplm.interface import bind_attributes, weigh_attributes
from pplm.models.resources import data_path, shipped_names

HELD_OUT = "held_out_words"
SENTIMENT_HEAD = "sentiment"
SENTIMENTS = ("positive", "negative")
_KEYS = ("bag", "avoid_bag", "discriminator", "held_out", "description", "sentiment")


@dataclass(frozen=True)
class AttributeSpec:
    """One attribute as the user named it.

    Attributes
    ----------
    bags, avoid_bags, discriminators
        As in `--bag`, `--avoid-bag` and `--discriminator`.
    held_out
        A list of words of the same topic that steering does not see; None for none.
    description
        For the similarity judge; None takes the shipped one or the name.
    sentiment
        Which side of VADER's 0 is right; None where sentiment says nothing.

    """

    bags: tuple[str, ...] = ()
    avoid_bags: tuple[str, ...] = ()
    discriminators: tuple[str, ...] = ()
    held_out: Path | None = None
    description: str | None = None
    sentiment: Literal["positive", "negative"] | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """The attributes of one run.

    Attributes
    ----------
    specs
        By name.
    paper
        Which of the paper's tables they belong to ("topics", "sentiment"); None for one's own.

    """

    specs: Mapping[str, AttributeSpec]
    paper: str | None

    @property
    def prompts(self) -> Path:
        """The paper's prompts for these attributes."""
        return data_path("prompts", "sentiment.txt" if self.paper == "sentiment" else "topics.txt")

    @property
    def descriptions(self) -> dict[str, str]:
        """What the user says of an attribute, by name."""
        return {name: spec.description for name, spec in self.specs.items() if spec.description}


@dataclass(frozen=True, eq=False)
class LoadedSet:
    """The attribute models, what tells of them, and what names them in the settings, all by attribute name."""

    models: Mapping[str, list[Weighted]]
    wanted: Mapping[str, Wanted]
    identity: Mapping[str, Any]


def named_set(text: str) -> EvaluationSet:
    """Return the set of --attributes: topics, sentiment, some of their members, or a JSON file of the user's own.

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
        return EvaluationSet(_read_specs(Path(text).expanduser()), None)
    if len(set(names)) != len(names):
        raise InputError(f"--attributes {text} names an attribute twice; leave one out")
    if set(names) <= set(topics):
        return EvaluationSet({name: _topic(name) for name in names}, "topics")
    if set(names) <= set(SENTIMENTS):
        return EvaluationSet({name: _sentiment(name) for name in names}, "sentiment")
    raise InputError(
        f"--attributes {text!r} is neither topics ({', '.join(topics)}) nor sentiment ({', '.join(SENTIMENTS)}), nor "
        "some of either, nor a .json file"
    )


def load_set(chosen: EvaluationSet, model: Any, tokenizer: Any, *, held_out_head: str | None = None) -> LoadedSet:
    """Load a set's attribute models for a language model, and what tells of them.

    Raises
    ------
    InputError
        If a list or head cannot be read or does not fit, or the held-out head steers.

    """
    head = None if held_out_head is None else Discriminator.load(held_out_head)
    models, wanted, identity = {}, {}, {}
    for name, spec in chosen.specs.items():
        choice = AttributeChoice(spec.bags, spec.avoid_bags, (), 60, "listed", None, spec.discriminators, None, False)
        own = load_attributes(choice, model, tokenizer, speak=False)
        bind_attributes(weigh_attributes(own), model)
        models[name] = own
        identity[name] = [{**_identity(attribute), "weight": weight} for attribute, weight in own]
        wanted[name] = Wanted(
            frozenset(bag_words(own)),
            frozenset(() if spec.held_out is None else read_word_list(spec.held_out)),
            spec.sentiment,
            None if head is None else _head_judge(head, own, name, model, tokenizer),
        )
    return LoadedSet(models, wanted, identity)


def _topic(name: str) -> AttributeSpec:
    return AttributeSpec(bags=(name,), held_out=data_path(HELD_OUT, f"{name}.txt"))


def _sentiment(name: str) -> AttributeSpec:
    side = cast(Literal["positive", "negative"], name)
    return AttributeSpec(discriminators=(f"{SENTIMENT_HEAD}:{name}",), sentiment=side)


def _head_judge(
    head: Discriminator, own: Sequence[Weighted], name: str, model: Any, tokenizer: Any
) -> HeadJudge | None:
    """Return the judge that reads the probability of the label that steers; None where no head steers."""
    steering = [attribute for attribute, _ in own if isinstance(attribute, Discriminator)]
    if not steering:
        return None
    label = steering[0].label
    if label not in head.labels:
        raise InputError(
            f"--held-out-head {head.name} has no label {label!r}, which {name} is steered to; its labels are "
            f"{', '.join(head.labels)}"
        )
    if any(_digest(head.weight.numpy().tobytes()) == _digest(one.weight.numpy().tobytes()) for one in steering):
        raise InputError(f"--held-out-head {head.name} is the head that steers {name}; train another on other texts")
    head.for_model(model)
    column = head.labels.index(label)
    return HeadJudge(
        lambda texts: classify_texts(model, tokenizer, head, texts)[:, column].tolist(), f"head {head.name}", "head"
    )


def _identity(attribute: Any) -> dict[str, str]:
    """Return what tells one attribute model from another, for the settings."""
    if isinstance(attribute, Avoid):
        return {f"avoid {kind}": value for kind, value in _identity(attribute.attribute).items()}
    if isinstance(attribute, BagOfWords):
        return {"bag": attribute.name, "words": _digest(json.dumps(sorted(attribute.weights.items())).encode())}
    numbers = attribute.weight.numpy().tobytes() + attribute.bias.numpy().tobytes()
    return {"head": attribute.name, "label": str(attribute.label), "numbers": _digest(numbers)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read_specs(path: Path) -> dict[str, AttributeSpec]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--attributes {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"--attributes {path} is no JSON in UTF-8 ({error})") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f'--attributes {path} must be an object {{"name": {{"bag": "words.txt", ...}}, ...}}')
    return {name: _spec(name, values, path) for name, values in content.items()}


def _spec(name: str, values: Any, path: Path) -> AttributeSpec:
    place = f"--attributes {path}, attribute {name!r}"
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
    """Return NAME[:LABEL][:WEIGHT] with the folder of the JSON file before a name that is a file there."""
    parts = text.split(":")
    for end in range(len(parts), 0, -1):
        name = ":".join(parts[:end])
        if name and (path.parent / name).exists():
            return ":".join([str(path.parent / name), *parts[end:]])
    return text


def read_prompts(chosen: EvaluationSet, path: Path | None) -> tuple[str, ...]:
    """Return the prompts in a file, one a line, or the paper's.

    Raises
    ------
    InputError
        If the file cannot be read or holds none.

    """
    path = path or chosen.prompts
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"--prompts {path} is not UTF-8; save it as UTF-8 text") from error
    except OSError as error:
        raise InputError(f"--prompts {path} cannot be read: {error.strerror or error}") from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise InputError(f"--prompts {path} holds no prompt; write one a line")
    return prompts
