"""What the loader of a model leaves with it for the decoding loop, which opens no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pplm.presets import SteeringPresets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "_pplm_attached"


@dataclass(frozen=True)
class Attached:
    """What is known of a model beyond its weights.

    Attributes
    ----------
    presets
        The model's own steering settings.
    tokenizer
        Fingerprint of the tokenizer that was loaded with the model; None if there was none.

    """

    presets: SteeringPresets = field(default_factory=SteeringPresets)
    tokenizer: str | None = None


def attach(model: Any, what: Attached) -> None:
    """Leave something with a model; it is not saved with it."""
    object.__setattr__(model, _NAME, what)


def attached(model: Any) -> Attached:
    """Return what was left with a model, or the empty record."""
    return getattr(model, _NAME, Attached())


def steering_presets(model: PreTrainedModel) -> SteeringPresets:
    """Return the settings that `load_model` found for the weights; empty if there are none.

    Those of `pplm tune` come first, kind by kind, before those beside the weights (`steering.json`), else shipped.
    """
    return attached(model).presets
