"""The options that set how to steer, how they are read, and the line that reports the settings of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import click

from pplm.cli.options import Command, explained_fields, field_options, given_fields
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.presets import DIAL_SETTINGS, DIAL_STEPS, PAPER_PRESETS, STEP_FIELDS, Preset, PresetName
from pplm.step import Step


def steering_options(command: Command) -> Command:
    """Add --preset, --target and the fields of `SteeringConfig` by name; not given means the preset's value."""
    command = field_options(SteeringConfig, show_defaults=False)(command)
    for option in (
        click.option("--target", "targets", multiple=True, metavar="[NAME=]LEVEL",
                     help="The wanted level of an attribute in the text (0 to 1): of a bag, the mean probability of "
                     "its words as the next token (0.05 is a lot); of a head, the probability of its class; of what "
                     "is avoided, an upper bound. Steers only as far as that takes, and never further than a given "
                     "--strength. With several attributes, name each one's: space=0.05. Repeatable."),
        click.option("--preset", type=click.Choice(get_args(PresetName)), default=None,
                     help="Settings to start from. fast moves the last layers alone, in few steps; paper moves all "
                     "layers, as published. A model that has settings of its own under that name uses them.  "
                     "[default: the model's own, fast before paper; without any, --strength 0.5]"),
    ):  # fmt: skip
        command = option(command)
    return command


def given_steering(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the options of steering from a command's; return those that the user gave, checked.

    They are keywords of `SteeringConfig.for_attributes`. No model is loaded for this.
    """
    given = given_fields(SteeringConfig, options)
    if targets := options.pop("targets"):
        given["target"] = parse_targets(targets, "--target")
    given = {"preset": options.pop("preset"), **given}
    SteeringConfig.for_attributes([], **given)
    return given


def parse_targets(texts: Sequence[str], option: str) -> dict[str, float] | float:
    """Read an option's targets: one level, or levels by the attributes' names.

    Raises
    ------
    InputError
        If one is not a number, or of several one has no name or another's.

    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, level = text.rpartition("=")
        try:
            value = float(level)
        except ValueError:
            raise InputError(f"{option} must be a level, such as 0.05 or space=0.05; got {text!r}") from None
        if name in found or (not name and (equals or len(texts) > 1)):
            raise InputError(f"{option} {text!r}: of several levels, name each one's attribute, once: space=0.05")
        found[name] = value
    return found.get("", found)


def steering_line(settings: SteeringConfig, preset: Preset, given: Collection[str] = ()) -> str:
    """Return the settings of a run in one line: those that a preset sets, and others that are not at their default.

    `given` names the fields that the user gave. Where kinds of attributes take steps of their own, each kind's is
    listed, and once for all a field of a step that the user gave. What the dial sets alike on every model is left out.
    """
    usual = {name: DIAL_SETTINGS[name] for name in ("kl_scale", "horizon_length")} if settings.dialled else {}
    if settings.dialled and all(settings.step_of(kind) == Step(**DIAL_STEPS[kind]) for kind in settings.steps):
        settings = replace(settings, steps={})
    own = STEP_FIELDS if settings.steps or settings.dialled else ()
    shown = [
        f"{field.name} {getattr(settings, field.name)}"
        for field in explained_fields(SteeringConfig)
        if (field.name in PAPER_PRESETS["bag_of_words"] or getattr(settings, field.name) != field.default)
        and field.name not in own
        and getattr(settings, field.name) != usual.get(field.name)
    ]
    if settings.target is not None:
        levels = settings.target if isinstance(settings.target, Mapping) else {"": settings.target}
        shown.insert(
            0, "target " + ", ".join(f"{name}={level}" if name else f"{level}" for name, level in levels.items())
        )
    shown += [f"{name} {getattr(settings, name)} for every attribute" for name in own if name in given]
    steps = [
        f"{kind}: {', '.join(f'{name} {value}' for name, value in vars(step).items() if name not in given)}"
        for kind, step in settings.steps.items()
    ]
    return f"steering: {'; '.join([f'{preset}, ' + ', '.join(shown), *steps])}"
