"""The settings of steering, in one frozen object that validates itself.

Symbols and default values follow the paper (Dathathri et al., "Plug and Play Language Models", ICLR 2020,
sections 3.2 and 3.3) and its published README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, get_type_hints

from pplm.checks import check_layers, check_range, check_target, check_type
from pplm.errors import InputError
from pplm.presets import (
    ATTRIBUTE_KINDS,
    DIAL_STEPS,
    MAX_DIVERGENCE,
    MAX_DIVERGENCE_TO_TARGET,
    STEP_FIELDS,
    Preset,
    PresetName,
    SteeringPresets,
)
from pplm.step import NormRule, Step, check_step, checked_steps

MIN_DISTINCT = 0.8
"""A candidate with a lower mean of Dist-1, Dist-2 and Dist-3 counts as repetitive; see `pplm.Rerank`."""
_NO_PRESETS = SteeringPresets()
_STEP_SIZE = 0.03
"""The paper's step size for a bag of words with GPT-2 345M."""


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

    strength: float | None = _setting(
        None,
        "How strongly to steer, on the same scale for every model (0 to 1): 0 leaves the text unsteered, 0.2 is "
        "gentle, 0.5 usual, 0.8 strong. It limits how far each token's distribution may diverge from the unsteered "
        "one: 0.15 nats at 0.5. Replaces --step-size; --gm-scale is then an upper bound.",
    )
    step_size: float = _setting(
        _STEP_SIZE,
        "Length of a step that moves the history (>= 0; 0 leaves the text unsteered). Raise it when the topic does not "
        "show, lower it when the text repeats itself.",
    )
    num_iterations: int = _setting(
        3,
        "Gradient steps before each token (>= 0; 0 leaves the text unsteered). More steps are stronger and slower.",
    )
    gamma: float = _setting(
        1.5,
        "Each step is divided by the gradient's norm to this power (0 to 2). 0 leaves the gradient as it is, 1 "
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
        "layers below are read once per token: fewer layers are faster, and need larger steps.",
    )
    decay: bool = _setting(
        False,
        "Move older positions of the window less, in equal steps down to 1/window_length for the oldest. Has no effect "
        "until the history is longer than the window, nor with window_length 0.",
    )
    horizon_length: int = _setting(
        1,
        "Expected future positions that a discriminator reads (>= 0). Each costs a pass; with 0 the text so far is "
        "steered by its last token's hidden state. Bags of words ignore it.",
    )
    grad_length: int = _setting(10_000, "Steer only the first N new tokens (>= 0; 0 steers none).")
    steer_every: int = _setting(
        1, "Steer every Nth new token (>= 1); those between read the history as last moved. 2 nearly halves the time."
    )
    skip_below: float = _setting(
        0.0,
        "Do not steer a sample at tokens where its attribute loss is already below this, or where no attribute can act "
        "(nats, >= 0; 0 skips none). Saves iterations where the attribute is already strong.",
    )
    skip_weak: float = _setting(
        0.0,
        "Do not steer a sample at tokens where its gradient is shorter than this share of the longest in its text so "
        "far (0 to 1; 0 skips none). Saves iterations where steering changes little.",
    )
    norm_rule: NormRule = _setting(
        "running_max",
        "Divide gradients by the largest norm so far in the text (running_max, the paper's choice for bags) or by "
        "their own norm (current, the paper's choice for discriminators).",
    )

    target: Mapping[str, float] | float | None = field(default=None, hash=False)
    """The wanted level (above 0, below 1) of the attribute, or a level by attribute name. For a bag it is the mean
    probability that the next token is one of its words, for a head the probability of its class given the text so far;
    for an attribute to avoid it is an upper bound of either. A text is steered no further, and within `strength` if
    that is given."""

    steps: Mapping[str, Step] = field(default_factory=dict, hash=False)
    """Steps by kind of attribute. If there are any, each attribute model takes a step of its own, with its kind's
    fields and scaled by its weight, and the steps are added. Empty, and without a strength or target, there is the
    paper's single step along the gradient of the weighted sum of the losses."""

    def __post_init__(self) -> None:
        """Check every field against its type and range."""
        for name, kind in get_type_hints(type(self)).items():
            own = {"layers": check_layers, "steps": checked_steps, "target": check_target}
            check = own.get(name, partial(check_type, name, kind=kind))
            checked = check(getattr(self, name))
            object.__setattr__(self, name, checked)
        check_step(self)
        for name in ("kl_scale", "num_iterations", "grad_length", "skip_below"):
            check_range(name, getattr(self, name), 0)
        check_range("gm_scale", self.gm_scale, 0, 1)
        check_range("skip_weak", self.skip_weak, 0, 1)
        check_range("horizon_length", self.horizon_length, 0)
        check_range("steer_every", self.steer_every, 1)
        if self.strength is not None:
            check_range("strength", self.strength, 0, 1)
        if self.dialled and self.step_size != _STEP_SIZE:
            what = "strength" if self.target is None else "target"
            raise InputError(f"{what} takes the place of step_size (now {self.step_size}); leave out one of the two")

    @property
    def dialled(self) -> bool:
        """Whether a strength or a target sets how hard to steer; steps are then in nats (`DIAL_STEPS`)."""
        return self.strength is not None or self.target is not None

    @property
    def budget(self) -> float:
        """The dial's budget: how far, in nats per token, the final distribution may diverge from the unsteered one.

        It grows with the square of the strength, as a divergence does with the length of a small step. Without a
        strength it is a target's, `MAX_DIVERGENCE_TO_TARGET`.
        """
        return MAX_DIVERGENCE_TO_TARGET if self.strength is None else MAX_DIVERGENCE * self.strength**2

    @property
    def moves(self) -> bool:
        """Whether these settings can change anything; if not, the loop is plain decoding."""
        return not self.why_still

    @property
    def why_still(self) -> str:
        """The settings that are 0, any of which leaves the text unsteered; empty where none is."""
        # The budget, not the strength: the square of a tiny one is 0.
        values = {"strength": self.budget}
        if not self.dialled:
            values = {"step_size": max(self.step_of(kind).step_size for kind in ATTRIBUTE_KINDS)}
        values |= {name: getattr(self, name) for name in ("num_iterations", "grad_length", "gm_scale")}
        return ", ".join(name for name, value in values.items() if value == 0)

    @property
    def step(self) -> Step:
        """The step along the gradient of the weighted sum of all losses, from the settings' own fields."""
        return Step(**{name: getattr(self, name) for name in STEP_FIELDS})

    def step_of(self, kind: str) -> Step:
        """Return the step of one kind of attribute: its own in `steps`, else the common one (`step`).

        With the dial, a kind without its own takes the dial's usual step (`DIAL_STEPS`), in which those of the
        settings' own fields that differ from their defaults take precedence.
        """
        if kind in self.steps or not self.dialled:
            return self.steps.get(kind, self.step)
        defaults = {field.name: field.default for field in fields(SteeringConfig)}
        given = {name: own for name, own in vars(self.step).items() if own != defaults[name]}
        return Step(**{**DIAL_STEPS[kind], **given})

    def changed(self, **changes: Any) -> SteeringConfig:
        """Return the settings with single fields changed; a field of a step is changed in every one of `steps` too.

        "discriminator.step_size" changes that kind's step alone.

        Raises
        ------
        InputError
            If there is no such field, or no step of that kind, or a change would turn the dial on or off.

        """
        asked = [name for name in ("strength", "target") if name in changes]
        left = {name: changes.get(name, getattr(self, name)) for name in ("strength", "target")}
        if asked and self.dialled != any(value is not None for value in left.values()):
            raise InputError(
                f"{asked[0]} cannot be changed to {changes[asked[0]]!r} here: steps have other units with a strength "
                "or target than without; make the settings with SteeringConfig.for_attributes"
            )
        if self.dialled and "step_size" in changes:
            raise InputError(
                "these settings steer by strength or target, which takes the place of step_size; leave out step_size"
            )
        own = {name: value for name, value in changes.items() if name in STEP_FIELDS}
        steps = dict(changes.pop("steps", {kind: replace(step, **own) for kind, step in self.steps.items()}))
        for name in [name for name in changes if "." in name]:
            kind, _, field_name = name.partition(".")
            if kind not in steps or field_name not in STEP_FIELDS:
                raise InputError(
                    f"{name} is a field of no step here; kinds with a step of their own: {', '.join(steps) or 'none'} "
                    f"(several attributes with the preset fast have them); a step's fields: {', '.join(STEP_FIELDS)}"
                )
            steps[kind] = replace(steps[kind], **{field_name: changes.pop(name)})
        if unknown := set(changes) - set(get_type_hints(type(self))):
            raise InputError(f"steering has no setting {min(unknown)!r}; its settings are the fields of SteeringConfig")
        return replace(self, **changes, steps=steps)

    @property
    def skips(self) -> bool:
        """Whether single samples may be left unmoved at a token; this takes a look at every sample first."""
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
            Attribute models, or (model, weight) pairs. A model names its kind in `steering_kind` ("bag_of_words" if
            it has none). Bags and heads together are a mixture.
        presets
            A model's own settings (`pplm.steering_presets(model)`); none by default.
        preset
            "paper": moves all layers down the gradient of the losses' sum; takes the model's own settings, else those
            published for GPT-2 345M. "fast": moves the last layers in few steps, each of several attributes by steps of
            its own (`steps`); takes the model's own settings, else the dial at its usual strength. None: the model's
            own settings, `fast` before `paper`, else the dial.
        **overrides
            Fields of `SteeringConfig` to set by hand. `step_size` and the other fields of a step apply to every
            attribute. A `step_size` rules the dial out; a `strength` or a `target` asks for it.

        Raises
        ------
        InputError
            If a `step_size` or the preset "paper" comes with a `strength` or a `target`, or a value cannot be used.

        """
        overrides = {
            name: own for name, own in overrides.items() if name not in ("strength", "target") or own is not None
        }
        if "target" in overrides:
            overrides = {"strength": None, **overrides}
        chosen = cls.preset_for(attributes, presets, preset, **overrides)
        if unknown := set(chosen.settings) - set(get_type_hints(cls)):
            raise InputError(f"presets name an unknown setting {min(unknown)!r}; use fields of SteeringConfig")
        return cls(**chosen.settings).changed(**overrides)

    @staticmethod
    def preset_for(
        attributes: Sequence[Any],
        presets: SteeringPresets | Mapping[str, Any],
        preset: PresetName | None = None,
        **overrides: Any,
    ) -> Preset:
        """Return the preset that `for_attributes` starts from; the overrides decide whether it is the dial."""
        dial = next((name for name in ("target", "strength") if overrides.get(name) is not None), None)
        fixed = any(name.rpartition(".")[2] == "step_size" for name in overrides)
        if dial and fixed:
            raise InputError(f"{dial} takes the place of step_size; leave out one of the two")
        return SteeringPresets.of(presets).choose(attributes, preset, dial=True if dial else False if fixed else None)

    @classmethod
    def resolve(
        cls,
        steering: SteeringConfig | None,
        preset: PresetName | None,
        attributes: Sequence[Any],
        presets: SteeringPresets,
    ) -> SteeringConfig:
        """Return the given settings, or the preset for these attribute models if `steering` is None."""
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


def setting_types() -> dict[str, Any]:
    """Return the types of all settings that can be set one by one, by name: a field, or `kind.field` of a step."""
    types = {name: kind for name, kind in get_type_hints(SteeringConfig).items() if name != "steps"}
    types |= {"strength": float, "target": float}
    return types | {f"{kind}.{name}": types[name] for kind in ATTRIBUTE_KINDS for name in STEP_FIELDS}
