"""What the page serves: one language model, and the names of what it can be steered by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from attribute_models.naming import AttributeChoice, KnownNames, bags_among, bind_named, load_head
from pplm.apps.doors.asked import Asked, name_asked
from pplm.apps.web.request import PageRequest, check_offered
from pplm.attached import steering_presets
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.interface import WeightedAttribute

SAMPLING: Mapping[str, Any] = {"do_sample": True, "top_k": 10}
"""How tokens are drawn: as `pplm generate` does."""
_KEPT = 32
"""How many choices of attributes are kept loaded."""


@dataclass(frozen=True)
class Served:
    """A loaded model and what visitors may name.

    Attributes
    ----------
    name
        The model, as `pplm.load_model` takes it.
    options
        What else it was loaded with, by name: device, dtype, quantize; only what is not at its default.
    model, tokenizer
        As loaded.
    known
        Names of bags and heads, and where they lie.

    """

    name: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    known: KnownNames = field(default_factory=KnownNames.shipped)

    def __post_init__(self) -> None:
        """Find the heads that fit the model, and let attribute models be remembered."""
        heads = tuple(f"{name}:{label}" for name in sorted(self.known.heads) for label in self._labels(name))
        object.__setattr__(self, "heads", heads)
        object.__setattr__(self, "_bound", lru_cache(_KEPT)(self._bind))

    heads: tuple[str, ...] = field(init=False)
    """`NAME:LABEL` of heads that fit the model."""

    @property
    def bags(self) -> tuple[str, ...]:
        """Names of bags."""
        return tuple(sorted(self.known.bags))

    @property
    def chat(self) -> bool:
        """Whether the model has a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def check(self, request: PageRequest) -> PageRequest:
        """Return a request if the page offers all that it names.

        Raises
        ------
        InputError
            If it does not.

        """
        return check_offered(request, self.bags, self.heads, chat=self.chat)

    def attributes(self, request: PageRequest) -> tuple[WeightedAttribute, ...]:
        """Return the attribute models that a request names, bound to the model.

        Raises
        ------
        InputError
            If one cannot be made.

        """
        return self._bound(request.asked().choice)  # type: ignore[attr-defined]

    def notes(self, request: PageRequest) -> list[str]:
        """Return the reports of bags with words that the tokenizer cannot spell."""
        bags = bags_among([(one.model, one.weight) for one in self.attributes(request)])
        return [str(report) for report in (bag.report() for bag in bags) if report.unmatched]

    def steering(self, request: PageRequest) -> SteeringConfig:
        """Return the settings that a request asks for."""
        models = [(one.model, one.weight) for one in self.attributes(request)]
        return request.asked().steering(models, steering_presets(self.model))

    def _bind(self, choice: AttributeChoice) -> tuple[WeightedAttribute, ...]:
        return bind_named(name_asked(Asked(choice), self.model, self.tokenizer, self.known), self.model)

    def _labels(self, name: str) -> tuple[str, ...]:
        """Return the labels of a head if it fits the model."""
        try:
            head = load_head(self.known.heads[name], None)
            head.towards(head.labels[0]).for_model(self.model)
        except InputError:
            return ()
        return tuple(head.labels)
