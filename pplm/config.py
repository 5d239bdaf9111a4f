"""The settings of steering, in one frozen object that validates itself.

Symbols and default values follow the paper (Dathathri et al., "Plug and Play Language Models", ICLR 2020,
sections 3.2 and 3.3) and its published README.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_type_hints

from pplm.errors import InputError
from pplm.presets import PresetName, SteeringPresets

NormRule = Literal["running_max", "current"]
"""What a gradient is divided by: the largest norm seen so far for this sample and layer, or its own norm."""
MIN_DISTINCT = 0.8
"""Candidates whose mean of Dist-1, Dist-2 and Dist-3 is lower repeat themselves; see `pplm.Rerank`."""
_NO_PRESETS = SteeringPresets()


def _setting(default: Any, help_text: str) -> Any:
    """Return a dataclass field that carries its own explanation, which the command line shows."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class SteeringConfig:
    """How far, how often and how carefully the history is moved before each token.

    Defaults are the paper's for a bag of words; `for_attributes` picks a preset that fits the attribute and the model.

    Raises
    ------
    InputError
        If a value is outside its range, not finite or of the wrong type.
    """

    step_size: float = _setting(
        0.03,
        "Length of a step that moves the history (>= 0; 0 leaves the text unsteered). Raise it when the topic does not "
        "show, lower it when the text repeats itself.",
    )
    num_iterations: int = _setting(
        3,
        "Gradient steps before each token (>= 0; 0 leaves the text unsteered). More steps are stronger and slower.",
    )
    gamma: float = _setting(
        1.5,
        "Exponent of the gradient norm that a step is divided by (0 to 2). 0 leaves the gradient as it is, 1 "
        "makes the steps of all layers equally long.",
    )
    kl_scale: float = _setting(
        0.01,
        "Weight of the KL divergence from the unsteered distribution in the loss (>= 0; 0 turns it off). Raise it "
        "when the text falls apart.",
    )
    gm_scale: float = _setting(
        0.99,
        "Share of the steered distribution in the geometric mean that tokens are drawn from (0 to 1; 0 "
        "leaves the text unsteered, 1 ignores the unsteered distribution). Lower it when the text repeats itself.",
    )
    window_length: int = _setting(5, "Move only the N most recent positions of the history (>= 0; 0 moves all).")
    layers: int | float = _setting(
        0,
        "Move only the last N layers (>= 0; 0 moves all), or that share of them (between 0 and 1, rounded up). The "
        "layers below are read once per token: fewer layers are faster, and take larger steps.",
    )
    decay: bool = _setting(
        False,
        "Move older positions of the window less, in equal steps down to 1/window_length for the oldest. Has no effect "
        "until the history is longer than the window, and none with window_length 0.",
    )
    horizon_length: int = _setting(
        1,
        "Future positions that a discriminator looks at (>= 0). Each costs a pass; with 0 it reads the last token's "
        "own state. Bags of words ignore it.",
    )
    grad_length: int = _setting(10_000, "Steer only the first N new tokens (>= 0; 0 steers none).")
    steer_every: int = _setting(
        1, "Steer every Nth new token (>= 1); the tokens between read the moved history. 2 nearly halves the time."
    )
    skip_below: float = _setting(
        0.0,
        "Do not steer a sample at tokens where its attribute loss is already below this, or where no attribute can act "
        "(nats, >= 0; 0 skips none). Saves the iterations where the attribute is already strong.",
    )
    skip_weak: float = _setting(
        0.0,
        "Do not steer a sample at tokens where its gradient is shorter than this share of the longest in its text so "
        "far (0 to 1; 0 skips none). Saves the iterations where steering changes little.",
    )
    norm_rule: NormRule = _setting(
        "running_max",
        "Divide gradients by the largest norm so far in the text (running_max, the paper's choice for bags) or by "
        "their own norm (current, the paper's choice for discriminators).",
    )

    def __post_init__(self) -> None:
        """Check every field against its type and range."""
        for name, kind in get_type_hints(type(self)).items():
            checked = check_layers(self.layers) if name == "layers" else check_type(name, getattr(self, name), kind)
            object.__setattr__(self, name, checked)
        for name in ("step_size", "kl_scale", "num_iterations", "window_length", "grad_length", "skip_below"):
            check_range(name, getattr(self, name), 0)
        check_range("gamma", self.gamma, 0, 2)
        check_range("gm_scale", self.gm_scale, 0, 1)
        check_range("skip_weak", self.skip_weak, 0, 1)
        check_range("horizon_length", self.horizon_length, 0)
        check_range("steer_every", self.steer_every, 1)

    @property
    def moves(self) -> bool:
        """Whether these settings can change anything; if not, the loop is plain decoding."""
        return self.step_size > 0 and self.num_iterations > 0 and self.grad_length > 0 and self.gm_scale > 0

    @property
    def skips(self) -> bool:
        """Whether single samples may be left alone at a token, which takes a look at them first."""
        return self.skip_below > 0 or self.skip_weak > 0

    @classmethod
    def for_attributes(
        cls,
        attributes: Sequence[Any],
        *,
        presets: SteeringPresets | Mapping[str, Any] = _NO_PRESETS,
        preset: PresetName | None = None,
        **overrides: Any,
    ) -> SteeringConfig:
        """Return the preset for these attribute models, with single fields overridden.

        Parameters
        ----------
        attributes
            Attribute models, or (model, weight) pairs. A model says of which kind it is in `steering_kind`
            ("bag_of_words" when it says nothing). Bags and heads together are a mixture.
        presets
            A model's own settings (`pplm.steering_presets(model)`); none by default.
        preset
            "paper": all layers, the model's own settings, else those published for GPT-2 345M. "fast": the last layers
            in few steps, the model's own settings, else a general choice. None: the model's own, `fast` before `paper`,
            else the general `fast`.
        **overrides
            Fields of `SteeringConfig` to set by hand.

        """
        chosen = SteeringPresets.of(presets).choose(attributes, preset)
        if unknown := set(chosen.settings) - set(get_type_hints(cls)):
            raise InputError(f"presets name a setting {min(unknown)!r} that there is not; see SteeringConfig")
        return cls(**{**chosen.settings, **overrides})

    @classmethod
    def resolve(
        cls,
        steering: SteeringConfig | None,
        preset: PresetName | None,
        attributes: Sequence[Any],
        presets: SteeringPresets,
    ) -> SteeringConfig:
        """Return the settings that are given, or the preset for these attribute models where none are (`None`)."""
        if steering is None:
            return cls.for_attributes(attributes, presets=presets, preset=preset)
        if preset is not None:
            raise InputError(
                f"steering and preset={preset!r} both say how to steer; leave one out, or make the settings with "
                f"SteeringConfig.for_attributes(..., preset={preset!r})"
            )
        if not isinstance(steering, cls):
            raise InputError(f"steering must be a SteeringConfig, as SteeringConfig(step_size=0.1); got {steering!r}")
        return steering


def check_type(name: str, value: Any, kind: Any) -> Any:
    """Return a setting's value if it is of its type, a plain one or one of a `Literal`'s choices.

    Numbers of other libraries, such as NumPy's, become plain ones.

    Raises
    ------
    InputError
        With the setting's name and value.

    """
    choices = get_args(kind)
    if choices:
        if value not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
        return value
    accepted = {float: Real, int: Integral}.get(kind, kind)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{name} must be of type {kind.__name__}; got {value!r}")
    return value if isinstance(value, int | float) else kind(value)


def check_whole(name: str, value: Any, low: int = 0) -> int:
    """Return a whole number as a plain `int`, NumPy's included.

    Raises
    ------
    InputError
        If it is none, or below `low`.

    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}; got {value!r}")
    return int(value)


def check_layers(layers: Any) -> int | float:
    """Return a count of layers (>= 0) or a share of them (between 0 and 1); 1.0 could be read as either.

    Raises
    ------
    InputError
        With the value.

    """
    if isinstance(layers, Integral) and not isinstance(layers, bool) and int(layers) >= 0:
        return int(layers)
    if isinstance(layers, Real) and 0 < float(layers) < 1:
        return float(layers)
    raise InputError(f"layers must be a whole number of at least 0, or a share between 0 and 1; got {layers!r}")


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting outside its range, or not finite.

    Raises
    ------
    InputError
        With the setting's name and value, and the range.

    """
    # Compared, not math.isfinite(value): that overflows for a whole number beyond a float's range.
    if not low <= value <= high or value > sys.float_info.max:
        wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise InputError(f"{name} must be finite and {wanted}; got {value}")
