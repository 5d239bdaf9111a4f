"""Which settings steering starts from: the presets `paper` and `fast` and the dial, by the kind of attribute.

`paper` moves all layers, with the settings that the paper publishes for GPT-2 345M. `fast` moves the last layers alone,
in one or a few steps, and discriminators do not look ahead. A model may have its own settings for either, found for its
weights. The dial needs none: it steers by a strength, in units that mean the same on every model.
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
"""Fields of a step: those of `SteeringConfig` that differ between kinds of attribute."""
ATTRIBUTE_KINDS = ("bag_of_words", "avoidance", "discriminator")
"""What an attribute model may be: a bag or the like, something to avoid, a head."""
KINDS = (*ATTRIBUTE_KINDS, "mixture")
"""What a preset has settings for; a mixture is a head together with attributes of other kinds."""

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
"""The paper's settings for GPT-2 345M, by kind of attribute; avoidance uses a bag's, a mixture a discriminator's."""

USUAL_STRENGTH = 0.5
"""The dial's strength unless another is asked for."""
MAX_DIVERGENCE = 0.6
"""How far, in nats per token, strength 1 lets the final distribution diverge from the unsteered one."""
MAX_DIVERGENCE_TO_TARGET = 1.5
"""The same for a target without a strength. Few tokens spend it: most are held back by the level already reached."""

_BAG_STEP = MappingProxyType({"step_size": 3.0, "gamma": 1.0, "norm_rule": "running_max", "window_length": 5})
DIAL_STEPS: Mapping[str, Settings] = MappingProxyType(
    {
        "bag_of_words": _BAG_STEP,
        # Its gradient fades with the probability left to avoid; divided by the largest so far, its steps would too.
        "avoidance": MappingProxyType({**_BAG_STEP, "norm_rule": "current"}),
        "discriminator": MappingProxyType(
            {"step_size": 0.25, "gamma": 1.0, "norm_rule": "current", "window_length": 0}
        ),
    }
)
"""The dial's first steps, by kind of attribute; from then on their size adapts to each text (`pplm.text.dial`). A
`step_size` here is in nats: how much a step at the strongest gradient of the text so far would lower the attribute's
loss if the loss were linear (`pplm.steering.steer`). Sweeps on two models found steps that differ tenfold in length and
are equal in nats."""
DIAL_SETTINGS: Settings = MappingProxyType({"layers": 0.15, "num_iterations": 1, "kl_scale": 0.0, "horizon_length": 0})
"""The dial's settings for a model without its own. There is no KL term, because the budget limits the divergence."""
DIAL_GM_SCALES: Mapping[str, float] = MappingProxyType(
    {"bag_of_words": 0.5, "avoidance": 0.5, "discriminator": 1.0, "mixture": 0.5}
)
"""The dial's largest weight of the steered distribution, by kind of preset. For a bag, long steps taken by half work
best. For a head, whose steps add up over the text, many small ones taken in full show more of the class."""

_UPPER = MappingProxyType({"layers": 0.15, "num_iterations": 1, "step_size": 0.5, "gm_scale": 0.8})
FAST_PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "bag_of_words": _UPPER,
        # Its gradient fades with the probability left to avoid; divided by its own norm to a power above 1, a step
        # would grow as the gradient fades.
        "avoidance": MappingProxyType({**_UPPER, "gamma": 1.0, "norm_rule": "current"}),
        "discriminator": MappingProxyType({**_UPPER, "horizon_length": 0, "kl_scale": 0.0}),
        "mixture": MappingProxyType({**_UPPER, "horizon_length": 0}),
    }
)
"""What `fast` changes in the paper's settings for a model without its own, if a `step_size` is given: a cautious guess,
which `pplm sweep` improves on."""


@dataclass(frozen=True)
class Preset:
    """The settings chosen for a request, before single fields are changed.

    Attributes
    ----------
    name
        "paper", "fast" or "dial".
    own
        Whether the model has settings of its own for it.
    settings
        Fields of `SteeringConfig`.
    made_on
        If the model's own settings were found on the same model in another number format: "made on ..., used for ...";
        else empty.
    tuned
        Whether the model's own settings were found for the dial, as `pplm tune` does.

    """

    name: PresetName | Literal["dial"]
    own: bool
    settings: Settings
    made_on: str = ""
    tuned: bool = False

    def __str__(self) -> str:
        """Name the preset, and note if it was not made for this model."""
        if self.name == "dial":
            where = f" ({self.made_on})" if self.made_on else ""
            return f"the dial, tuned for this model{where}" if self.tuned else "the dial"
        general = {"paper": "published for GPT-2 345M", "fast": "a general choice"}[self.name]
        where = self.made_on if self.own else f"{general}; this model has no settings of its own for it"
        return f"preset {self.name} ({where})" if where else f"preset {self.name}"


@dataclass(frozen=True)
class SteeringPresets:
    """A model's own settings by kind of attribute: fields of `SteeringConfig` that replace the general ones.

    Attributes
    ----------
    paper, fast
        Settings by kind.
    made_on
        "made on ..., used for ..." if they were chosen on the same model in another number format; else empty.
    exact
        Kinds of `fast` to which `made_on` does not apply, because they were tuned on these very weights.

    """

    paper: Mapping[str, Settings] = field(default_factory=dict)
    fast: Mapping[str, Settings] = field(default_factory=dict)
    made_on: str = ""
    exact: frozenset[str] = frozenset()

    @classmethod
    def of(cls, table: SteeringPresets | Mapping[str, Any]) -> SteeringPresets:
        """Read a table `{"paper": {kind: settings}, "fast": {kind: settings}}`; `{kind: settings}` is for `paper`.

        Raises
        ------
        InputError
            If it names an unknown preset or kind.

        """
        if isinstance(table, SteeringPresets):
            return table
        names = get_args(PresetName)
        if not isinstance(table, Mapping):
            raise InputError(f"presets must be a table by preset and kind of attribute; got {table!r}")
        tables = table if any(name in table for name in names) else {"paper": table}
        for name, kinds in tables.items():
            if name not in names:
                raise InputError(f"presets hold {name!r}; a preset must be one of {', '.join(names)}")
            if not isinstance(kinds, Mapping):
                raise InputError(f"preset {name!r} must be a table of settings by kind; got {kinds!r}")
            for kind, settings in kinds.items():
                known = KINDS if name == "fast" else (*PAPER_PRESETS, "mixture")
                if kind not in known:
                    raise InputError(f"preset {name!r} holds {kind!r}; a kind must be one of {', '.join(known)}")
                if not isinstance(settings, Mapping):
                    raise InputError(f"{kind} of preset {name!r} must be a table of settings; got {settings!r}")
        return cls(**tables)

    def choose(self, attributes: Iterable[Any], name: PresetName | None = None, *, dial: bool | None = None) -> Preset:
        """Return the preset for these attribute models; without a name, the model's own, else the dial.

        With `fast`, each of several attribute models takes the step of its kind's preset (`steps`), unless a mixture's
        own settings name a step for that kind, or a field of a step for all kinds. With the dial, each takes the
        dial's step of its kind.

        Parameters
        ----------
        attributes
            Attribute models, or (model, weight) pairs.
        name
            "paper", "fast" or None.
        dial
            True if a strength or a target asks for the dial, False if a step size rules it out; None leaves that to
            the model's own settings. The dial takes over `layers` and `num_iterations` of the model's own `fast`.

        Raises
        ------
        InputError
            If there is no preset of that name, or `paper` is combined with the dial.

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
        """Return the dial's settings: a model's own if found for the dial, else only its layers and iterations."""
        kept = own if "strength" in own else _spread(own)
        steps = {kind: DIAL_STEPS[kind] for kind in sorted(kinds)}
        own_scale = {"gm_scale": DIAL_GM_SCALES[kind], "strength": USUAL_STRENGTH}
        return {**DIAL_SETTINGS, **own_scale, "steps": steps, **kept}

    def _fast(self, kind: str) -> dict[str, Any]:
        """Return the settings of the preset `fast` for one kind: the general ones, with the model's own in place."""
        base = {"avoidance": "bag_of_words", "mixture": "discriminator"}.get(kind, kind)
        own = self.fast.get(kind, {})
        own = _spread(own) if "strength" in own else own  # tuned for the dial: its steps are in nats
        return {**PAPER_PRESETS[base], **FAST_PRESETS[kind], **own}


def _spread(settings: Settings) -> dict[str, Any]:
    """Return those settings that mean the same with a step size and with the dial."""
    return {name: settings[name] for name in ("layers", "num_iterations") if name in settings}


def check_preset(name: object) -> None:
    """Refuse a name that is neither a preset's nor None.

    Raises
    ------
    InputError
        With the name.

    """
    if name not in (None, *get_args(PresetName)):
        raise InputError(f"preset must be one of {', '.join(get_args(PresetName))}; got {name!r}")


def request_kind(attributes: Iterable[Any]) -> str:
    """Return the kind of preset for these attribute models, or (model, weight) pairs, together: one of `KINDS`.

    Bags to show and bags to avoid together take a bag's preset, and so does a request without attribute models.
    """
    kinds = {kind_of(attribute) for attribute in attributes} or {"bag_of_words"}
    if kinds == {"avoidance"}:
        return "avoidance"
    if "discriminator" not in kinds:
        return "bag_of_words"
    return "mixture" if len(kinds) > 1 else "discriminator"


def kind_of(attribute: Any) -> str:
    """Return the kind that an attribute model, or the model of a (model, weight) pair, declares: its `steering_kind`.

    Raises
    ------
    InputError
        If it declares an unknown kind.

    """
    model = attribute[0] if isinstance(attribute, tuple) else attribute
    if hasattr(model, "steering_preset") and not hasattr(model, "steering_kind"):
        raise InputError(f"{type(model).__name__}.steering_preset is now called steering_kind; rename it")
    kind = getattr(model, "steering_kind", "bag_of_words")
    if not isinstance(kind, str) or kind not in ATTRIBUTE_KINDS:
        known = ", ".join(ATTRIBUTE_KINDS)
        raise InputError(f"steering_kind of {type(model).__name__} must be one of {known}; got {kind!r}")
    return kind
