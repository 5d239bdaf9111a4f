"""What a stranger may ask of steering: names of what is offered, words, and settings, each within a bound."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from attribute_models.naming import AttributeChoice, KnownNames, Weighted, name_attributes
from pplm.checks import check_range, check_type
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.presets import PresetName, SteeringPresets

MOST_NAMES: Mapping[str, int] = {"bags": 8, "avoid_bags": 8, "discriminators": 4}
"""Names in a request, by field of `AttributeChoice`."""
MOST_WORDS: Mapping[str, int] = {"words": 100, "avoid_words": 100}
"""Words and phrases in a request, by field of `AttributeChoice`."""
LONGEST_WORD = 60
"""Characters of a word, phrase or name."""
LARGEST_WEIGHT = 10.0
HIGHEST: Mapping[str, float] = {
    "strength": 1,
    "step_size": 10,
    "num_iterations": 20,
    "gamma": 2,
    "kl_scale": 100,
    "gm_scale": 1,
    "window_length": 10_000,
    "layers": 1_000,
    "horizon_length": 10,
    "grad_length": 10_000,
    "steer_every": 10_000,
    "skip_below": 1_000,
    "skip_weak": 1,
}
"""The largest value of each number that a request may set; the smallest is that of `SteeringConfig`."""
CHOICES = ("decay", "norm_rule", "target")
"""Settings without a largest value here: `SteeringConfig` checks them."""
LEFT_OUT = ("steps",)
"""Settings that only presets set, so that requests cannot."""


@dataclass(frozen=True)
class Asked:
    """The steering that a request asks for, its names not yet looked up.

    Attributes
    ----------
    choice
        Attributes.
    preset
        As `SteeringConfig.for_attributes` takes it.
    settings
        Fields of `SteeringConfig` that were given.

    """

    choice: AttributeChoice = field(default_factory=AttributeChoice)
    preset: PresetName | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def steering(self, attributes: Any, presets: SteeringPresets) -> SteeringConfig:
        """Return the settings for the named attribute models; what the request leaves out is as the presets have it."""
        return SteeringConfig.for_attributes(attributes, presets=presets, preset=self.preset, **self.settings)


def read_asked(given: Any, what: str = "steering") -> Asked:
    """Read `{"bags": ["space"], "strength": 0.5}`; names are looked up later, by `name_asked`.

    Parameters
    ----------
    given
        What JSON or YAML held: names, words and settings; a field of None counts as left out.
    what
        What error messages call it.

    Raises
    ------
    InputError
        If a field is unknown, or a value is of the wrong type or beyond its bound.

    """
    if not isinstance(given, Mapping):
        raise InputError(f'{what} must be a table such as {{"bags": ["space"], "strength": 0.5}}; got {_short(given)}')
    given = {name: value for name, value in given.items() if value is not None}
    known = {*MOST_NAMES, *MOST_WORDS, "preset", *HIGHEST, *CHOICES}
    if unknown := set(given) - known:
        name = min(unknown, key=str)
        raise InputError(f"{what} has no field {_short(name)}; its fields are {', '.join(sorted(known))}")
    lists = {**MOST_NAMES, **MOST_WORDS}
    named: dict[str, Any] = {
        name: _texts(f"{what}.{name}", given.pop(name), most) for name, most in lists.items() if name in given
    }
    choice = AttributeChoice(**named)
    preset = given.pop("preset", None)
    if preset is not None and preset not in get_args(PresetName):
        raise InputError(f"{what}.preset must be one of {', '.join(get_args(PresetName))}; got {_short(preset)}")
    _check_settings(given, what)
    if (given or preset) and not choice.names_any:
        name = "preset" if preset else min(given)
        raise InputError(f"{what}.{name} steers towards nothing; add bags, words or discriminators")
    return Asked(choice, preset, given)


def name_asked(asked: Asked, model: Any, tokenizer: Any, known: KnownNames) -> list[Weighted]:
    """Return the attribute models that a request names; see `attribute_models.naming.name_attributes`.

    Raises
    ------
    InputError
        If a name is not offered here, or something does not fit; the message holds no path of the operator's.

    """
    try:
        attributes = name_attributes(asked.choice, model, tokenizer, known=known)
    except InputError as error:
        raise InputError(without_paths(str(error), known)) from None
    for attribute, weight in attributes:
        if weight > LARGEST_WEIGHT:
            name = getattr(attribute, "name", "an attribute")
            raise InputError(f"the weight of {_short(name)} must be at most {LARGEST_WEIGHT:g} here; got {weight:g}")
    return attributes


def without_paths(message: str, known: KnownNames) -> str:
    """Return a message with each path of an offered bag or head replaced by the name that it is offered under."""
    offered: dict[str, Path] = {**known.bags, **known.heads}
    for name, path in sorted(offered.items(), key=lambda item: -len(str(item[1]))):
        message = message.replace(str(path), name)
    return message


def is_text(text: str) -> bool:
    """Return whether a text can be written as UTF-8: JSON may hold halves of characters (lone surrogates)."""
    return text.encode("utf-8", "ignore").decode() == text


def _texts(name: str, value: Any, most: int) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{name} must be a list of texts; got {_short(value)}")
    if len(value) > most:
        raise InputError(f"{name} may hold at most {most}; got {len(value)}")
    for item in value:
        if len(item) > LONGEST_WORD:
            raise InputError(f"{name}: {_short(item)} has {len(item)} characters; at most {LONGEST_WORD} are taken")
        if not is_text(item):
            raise InputError(f"{name}: {_short(item)} is not text that can be written as UTF-8; correct it")
    return tuple(value)


def _check_settings(given: Mapping[str, Any], what: str) -> None:
    """Check each setting by itself; `SteeringConfig` checks later whether they fit together."""
    target = given.get("target")
    if isinstance(target, Mapping):
        most = sum(MOST_NAMES.values()) + len(MOST_WORDS)
        if len(target) > most or any(len(str(name)) > 2 * LONGEST_WORD or not is_text(str(name)) for name in target):
            raise InputError(
                f"{what}.target may name at most {most} attributes, by the names in the request; leave out others"
            )
    for name, value in given.items():
        try:
            if name in HIGHEST:
                number = check_type(name, value, float)
                check_range(name, number, 0, HIGHEST[name])
            SteeringConfig(**{name: value})
        except InputError as error:
            raise InputError(f"{what}.{str(error)[:300]}") from None


def _short(value: Any) -> str:
    return reprlib.repr(value)
