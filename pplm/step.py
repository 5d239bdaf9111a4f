"""One step of steering: the settings that differ between kinds of attribute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from pplm.checks import check_range, check_type
from pplm.errors import InputError
from pplm.presets import ATTRIBUTE_KINDS, STEP_FIELDS

NormRule = Literal["running_max", "current"]
"""What a gradient is divided by: the largest norm seen so far for this sample and layer, or its own norm."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """How a gradient becomes a step: the fields of `SteeringConfig` whose best values depend on the kind of attribute.

    Attributes
    ----------
    step_size, gamma, norm_rule, window_length
        As in `SteeringConfig`.

    Raises
    ------
    InputError
        If a value is outside its range, not finite or of the wrong type.

    """

    step_size: float
    gamma: float
    norm_rule: NormRule
    window_length: int

    def __post_init__(self) -> None:
        """Check every field against its type and range."""
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, check_type(name, getattr(self, name), kind))
        check_step(self)


def check_step(settings: Any) -> None:
    """Refuse settings whose `step_size`, `window_length` or `gamma` is out of range.

    Raises
    ------
    InputError
        With the field and its value.

    """
    check_range("step_size", settings.step_size, 0)
    check_range("window_length", settings.window_length, 0)
    check_range("gamma", settings.gamma, 0, 2)


def checked_steps(steps: Any) -> dict[str, Step]:
    """Return a table of `Step`s by kind of attribute, made from plain tables (as JSON holds them) where necessary."""
    if not isinstance(steps, Mapping):
        raise InputError(f"steps must be a table of steps by kind of attribute; got {steps!r}")
    found = {}
    for kind, step in steps.items():
        if kind not in ATTRIBUTE_KINDS:
            raise InputError(f"steps must be named by kind: {', '.join(ATTRIBUTE_KINDS)}; got {kind!r}")
        if not isinstance(step, Step):
            if not isinstance(step, Mapping) or set(step) != set(STEP_FIELDS):
                raise InputError(f"the step of {kind} must have the fields {', '.join(STEP_FIELDS)}; got {step!r}")
            step = Step(**step)
        found[kind] = step
    return found
