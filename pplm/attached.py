"""What loading leaves on a model object for the decoding loop, which opens no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pplm.presets import SteeringPresets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "_pplm_attached"


@dataclass(frozen=True)
class Attached:
    """What was found out about a model beyond its weights.

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
    """Attach a record to a model object; saving the model does not save it."""
    object.__setattr__(model, _NAME, what)


def attached(model: Any) -> Attached:
    """Return the record attached to a model, or an empty one."""
    return getattr(model, _NAME, Attached())


def steering_presets(model: PreTrainedModel) -> SteeringPresets:
    """Return the settings that `load_model` found for the weights; empty if there are none.

    They are those beside the weights (`steering.json`), else those shipped with pplm; for the kinds that `pplm tune`
    has tuned on this machine, its settings take precedence.
    """
    return attached(model).presets
