"""Makes the attribute models and judges of a comparison from the attributes that `--attributes` names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attribute_models import Avoid, BagOfWords, Discriminator, classify_texts, read_word_list
from attribute_models.naming import Weighted
from pplm.cli.attributes import AttributeOptions, load_attributes
from pplm.comparison import Attribute
from pplm.comparison.attributes import AttributeSet
from pplm.errors import InputError
from pplm.evaluation import HeadJudge


def build_attributes(
    chosen: AttributeSet, model: Any, tokenizer: Any, *, held_out_head: str | None = None
) -> dict[str, Attribute]:
    """Load a set's attribute models for a language model, with the words and heads that recognise each attribute.

    Raises
    ------
    InputError
        If a list or head cannot be read or does not fit, or the held-out head steers.

    """
    head = None if held_out_head is None else Discriminator.load(held_out_head)
    built = {}
    for name, spec in chosen.specs.items():
        choice = AttributeOptions(bags=spec.bags, avoid_bags=spec.avoid_bags, discriminators=spec.discriminators)
        with _named(f"attribute {name!r}"):
            own = load_attributes(choice, model, tokenizer, speak=False)
            with _named("held_out"):
                held_out = frozenset(() if spec.held_out is None else read_word_list(spec.held_out))
            judge = None if head is None else _head_judge(head, own, model, tokenizer)
            built[name] = Attribute(
                models=own,
                bag_words=frozenset(word for bag, _ in own if isinstance(bag, BagOfWords) for word in bag.words),
                held_out_words=held_out,
                sentiment=spec.sentiment,
                head=judge,
                identity=[{**_identity(attribute), "weight": weight} for attribute, weight in own],
            )
    return built


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Begin the message of an error with what it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _head_judge(head: Discriminator, own: Sequence[Weighted], model: Any, tokenizer: Any) -> HeadJudge | None:
    """Return a judge of the probability of the label that is steered to; None where no head steers."""
    steering = [attribute for attribute, _ in own if isinstance(attribute, Discriminator)]
    if not steering:
        return None
    label, head = steering[0].label, head.for_model(model)
    if label not in head.labels:
        raise InputError(
            f"--held-out-head {head.name} has no label {label!r}, which is steered to; its labels are "
            f"{', '.join(head.labels)}"
        )
    if any(head.weight.equal(one.weight) for one in steering):
        raise InputError(f"--held-out-head {head.name} is the head that steers; train another on other texts")
    column = head.labels.index(label)
    return HeadJudge(
        lambda texts: classify_texts(model, tokenizer, head, texts)[:, column].tolist(), f"head {head.name}", "head"
    )


def _identity(attribute: Any) -> dict[str, str]:
    """Return what identifies an attribute model in the settings of a comparison."""
    if isinstance(attribute, Avoid):
        return {f"avoid {kind}": value for kind, value in _identity(attribute.attribute).items()}
    if isinstance(attribute, BagOfWords):
        return {"bag": attribute.name, "words": _digest(json.dumps(sorted(attribute.weights.items())).encode())}
    numbers = attribute.weight.cpu().numpy().tobytes() + attribute.bias.cpu().numpy().tobytes()
    return {"head": attribute.name, "label": str(attribute.label), "numbers": _digest(numbers)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
