"""Which settings steering starts from: the presets `paper` and `fast` and the dial, by the kind of attribute.

`paper` moves all layers, with the settings that the paper publishes for GPT-2 345M. `fast` moves the last layers alone,
in one or a few steps, and looks at no future. Either may be a model's own, where somebody has looked for the settings
that suit its weights. The dial needs none: it steers by a strength, in units that mean the same on every model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

from pplm.errors import InputError

PresetName = Literal["paper", "fast"]
Settings = Mapping[str, Any]
"""Fields of `SteeringConfig`."""
STEP_FIELDS = ("step_size", "gamma", "norm_rule", "window_length")
"""Fields of a step, in which the kinds of attribute differ."""
ATTRIBUTE_KINDS = ("bag_of_words", "avoidance", "discriminator")
"""What an attribute model may be: a bag and what is like it, a bag to avoid, a head."""
KINDS = (*ATTRIBUTE_KINDS, "mixture")
"""What a preset has settings for; a mixture is a head together with what is none."""

PAPER_PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "bag_of_words": MappingProxyType(
            {
                "step_size": 0.03,
                "num_iterations": 3,
                "gamma": 1.5,
                "kl_scale": 0.01,
                "gm_scale": 0.99,
                "window_length": 5,
                "norm_rule": "running_max",
            }
        ),
        "discriminator": MappingProxyType(
            {
                "step_size": 0.04,
                "num_iterations": 10,
                "gamma": 1.0,
                "kl_scale": 0.01,
                "gm_scale": 0.95,
                "window_length": 0,
                "norm_rule": "current",
            }
        ),
    }
)
"""The paper's settings for GPT-2 345M, by kind of attribute; avoidance takes a bag's, a mixture a discriminator's."""

USUAL_STRENGTH = 0.5
"""Of the dial where nothing else is asked for."""
MAX_DIVERGENCE = 0.6
"""Nats per token that strength 1 allows the final distribution to diverge from the unsteered one."""
MAX_DIVERGENCE_TO_TARGET = 1.5
"""The same for a target without a strength. It is there for single tokens: the text's level holds back the others."""

_BAG_STEP = MappingProxyType({"step_size": 3.0, "gamma": 1.0, "norm_rule": "running_max", "window_length": 5})
DIAL_STEPS: Mapping[str, Settings] = MappingProxyType(
    {
        "bag_of_words": _BAG_STEP,
        # Its gradient fades with the probability that is left, and so would its steps.
        "avoidance": MappingProxyType({**_BAG_STEP, "norm_rule": "current"}),
        "discriminator": MappingProxyType(
            {"step_size": 0.25, "gamma": 1.0, "norm_rule": "current", "window_length": 0}
        ),
    }
)
"""The dial's first steps, by kind of attribute, for a strength that is equal to `gm_scale`; from then on their size
adapts to each text. It is in nats: what a step at the strongest gradient of the text so far would take off the
attribute's loss, were the loss linear (`pplm.steering.steer`). Steps found by sweeps on two models, ten times apart as
lengths, are the same in nats."""
DIAL_SETTINGS: Settings = MappingProxyType({"layers": 0.15, "num_iterations": 1, "kl_scale": 0.0, "horizon_length": 0})
"""What the dial takes where a model has no settings of its own. Its budget does what elsewhere the KL term does."""
DIAL_GM_SCALES: Mapping[str, float] = MappingProxyType(
    {"bag_of_words": 0.5, "avoidance": 0.5, "discriminator": 1.0, "mixture": 0.5}
)
"""The dial's largest weight of the steered distribution, by kind of preset. A bag's gradient is best followed far and
taken by half. A head's texts are steered by steps that add up, and many small ones show more of the class."""

_UPPER = MappingProxyType({"layers": 0.15, "num_iterations": 1, "step_size": 0.5, "gm_scale": 0.8})
FAST_PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "bag_of_words": _UPPER,
        # Its gradient fades with the probability that is left; divided by a power above 1 of that, a step would grow.
        "avoidance": MappingProxyType({**_UPPER, "gamma": 1.0, "norm_rule": "current"}),
        "discriminator": MappingProxyType({**_UPPER, "horizon_length": 0, "kl_scale": 0.0}),
        "mixture": MappingProxyType({**_UPPER, "horizon_length": 0}),
    }
)
"""What `fast` is with an explicit `step_size` on a model without settings of its own, over the paper's: a careful
guess, which `pplm sweep` improves on."""


@dataclass(frozen=True)
class Preset:
    """The settings that a request comes to before single fields are changed.

    Attributes
    ----------
    name
        "paper", "fast" or "dial".
    own
        Whether they are the model's own.
    settings
        Fields of `SteeringConfig`.
    made_on
        Where the model's own were found on the same model in other numbers: both models' names.
    tuned
        Whether the model's own were found for the dial, as `pplm tune` does.

    """

    name: PresetName | Literal["dial"]
    own: bool
    settings: Settings
    made_on: str = ""
    tuned: bool = False

    def __str__(self) -> str:
        """Name the preset, and say where it was not made for the model."""
        if self.name == "dial":
            where = f" ({self.made_on})" if self.made_on else ""
            return f"the dial, tuned for this model{where}" if self.tuned else "the dial"
        general = {"paper": "published for GPT-2 345M", "fast": "a general choice"}[self.name]
        where = self.made_on if self.own else f"{general}; this model has no settings of its own for it"
        return f"preset {self.name} ({where})" if where else f"preset {self.name}"


@dataclass(frozen=True)
class SteeringPresets:
    """A model's own settings by kind of attribute: fields of `SteeringConfig`, over the general ones.

    Attributes
    ----------
    paper, fast
        Settings by kind.
    made_on
        "made on ..., used for ..." where they were chosen on the same model in other numbers; else empty.
    exact
        Kinds of `fast` for which `made_on` does not hold: they were tuned on these very weights.

    """

    paper: Mapping[str, Settings] = field(default_factory=dict)
    fast: Mapping[str, Settings] = field(default_factory=dict)
    made_on: str = ""
    exact: frozenset[str] = frozenset()

    @classmethod
    def of(cls, table: SteeringPresets | Mapping[str, Any]) -> SteeringPresets:
        """Read a table `{"paper": {kind: settings}, "fast": {kind: settings}}`, or one of kinds alone, the paper's.

        Raises
        ------
        InputError
            If it names a preset or a kind that there is not.

        """
        if isinstance(table, SteeringPresets):
            return table
        names = get_args(PresetName)
        if not isinstance(table, Mapping):
            raise InputError(f"presets must be a table by preset and kind of attribute; got {table!r}")
        tables = table if any(name in table for name in names) else {"paper": table}
        for name, kinds in tables.items():
            if name not in names:
                raise InputError(f"{name!r} is none of {', '.join(names)}")
            if not isinstance(kinds, Mapping):
                raise InputError(f"preset {name!r} must be a table of settings by kind; got {kinds!r}")
            for kind, settings in kinds.items():
                known = KINDS if name == "fast" else (*PAPER_PRESETS, "mixture")
                if kind not in known:
                    raise InputError(f"{kind!r} is none of {', '.join(known)}")
                if not isinstance(settings, Mapping):
                    raise InputError(f"{kind} of preset {name!r} must be a table of settings; got {settings!r}")
        return cls(**tables)

    def choose(self, attributes: Iterable[Any], name: PresetName | None = None, *, dial: bool | None = None) -> Preset:
        """Return the preset for these attribute models; without a name, the model's own, else the dial.

        With `fast` and the dial, each of several attribute models takes a step of its own kind's preset, or of the
        mixture's where that names one (`steps`); fields of a step that the mixture names once hold for every kind.

        Parameters
        ----------
        attributes
            Attribute models, or (model, weight) pairs.
        name
            "paper", "fast" or None.
        dial
            Whether the dial is asked for, by a strength or a target, or ruled out, by a step size; None leaves that
            to the model's own settings. With `fast`, the dial takes the model's own layers and iterations.

        Raises
        ------
        InputError
            If there is no preset of that name, or the dial is asked for with `paper`, which is without one.

        """
        check_preset(name)
        if dial and name == "paper":
            raise InputError("preset paper steers by a step_size; leave out the preset, or strength and target")
        attributes = list(attributes)
        named = [kind_of(attribute) for attribute in attributes] or ["bag_of_words"]
        kinds = set(named)
        base = "discriminator" if "discriminator" in kinds else "bag_of_words"
        kind = "mixture" if base == "discriminator" and len(kinds) > 1 else base
        own_paper = {**self.paper.get(base, {}), **self.paper.get(kind, {})}
        asked = request_kind(attributes)
        if name == "paper" or (name is None and not dial and own_paper and not {kind, asked} & set(self.fast)):
            return Preset("paper", bool(own_paper), {**PAPER_PRESETS[base], **own_paper}, self.made_on)
        kind = asked
        own = self.fast.get(kind)
        made_on = "" if kind in self.exact else self.made_on
        tuned = own is not None and "strength" in own
        if dial or (dial is None and (own is None or tuned)):
            return Preset("dial", own is not None, self._dialled(own or {}, kind, kinds), made_on, tuned)
        settings = self._fast(kind)
        if len(named) > 1:
            mixture = self.fast.get("mixture", {}) if kind == "mixture" else {}
            for_all = {name: value for name, value in mixture.items() if name in STEP_FIELDS}
            settings["steps"] = {
                own: mixture.get("steps", {}).get(own)
                or {**{name: self._fast(own)[name] for name in STEP_FIELDS}, **for_all}
                for own in sorted(kinds)
            }
        return Preset("fast", own is not None, settings, made_on)

    def _dialled(self, own: Settings, kind: str, kinds: Iterable[str]) -> dict[str, Any]:
        """Return the dial's settings: a model's own where they were found for the dial, else its layers alone."""
        kept = own if "strength" in own else _spread(own)
        steps = {kind: DIAL_STEPS[kind] for kind in sorted(kinds)}
        own_scale = {"gm_scale": DIAL_GM_SCALES[kind], "strength": USUAL_STRENGTH}
        return {**DIAL_SETTINGS, **own_scale, "steps": steps, **kept}

    def _fast(self, kind: str) -> dict[str, Any]:
        """Return the settings of the preset `fast` for one kind, the general ones where the model has none."""
        base = {"avoidance": "bag_of_words", "mixture": "discriminator"}.get(kind, kind)
        own = self.fast.get(kind, {})
        own = _spread(own) if "strength" in own else own  # its steps are in nats
        return {**PAPER_PRESETS[base], **FAST_PRESETS[kind], **own}


def _spread(settings: Settings) -> dict[str, Any]:
    """Return those settings that mean the same by a step size and by the dial."""
    return {name: settings[name] for name in ("layers", "num_iterations") if name in settings}


def check_preset(name: object) -> None:
    """Refuse a name that is no preset's; None names none.

    Raises
    ------
    InputError
        With the name.

    """
    if name not in (None, *get_args(PresetName)):
        raise InputError(f"preset must be one of {', '.join(get_args(PresetName))}; got {name!r}")


def request_kind(attributes: Iterable[Any]) -> str:
    """Return which kind of preset these attribute models, or (model, weight) pairs, take together: one of `KINDS`.

    Bags alone, wanted and avoided ones together, take a bag's; without any attribute model it is a bag's too.
    """
    kinds = {kind_of(attribute) for attribute in attributes} or {"bag_of_words"}
    if kinds == {"avoidance"}:
        return "avoidance"
    if "discriminator" not in kinds:
        return "bag_of_words"
    return "mixture" if len(kinds) > 1 else "discriminator"


def kind_of(attribute: Any) -> str:
    """Return the kind that an attribute model, or a (model, weight) pair, says it is: `steering_kind`.

    Raises
    ------
    InputError
        If it names a kind that there is not.

    """
    model = attribute[0] if isinstance(attribute, tuple) else attribute
    if hasattr(model, "steering_preset") and not hasattr(model, "steering_kind"):
        raise InputError(f"{type(model).__name__}.steering_preset is now called steering_kind; rename it")
    kind = getattr(model, "steering_kind", "bag_of_words")
    if not isinstance(kind, str) or kind not in ATTRIBUTE_KINDS:
        known = ", ".join(ATTRIBUTE_KINDS)
        raise InputError(f"steering_kind of {type(model).__name__} must be of {known}; got {kind!r}")
    return kind
