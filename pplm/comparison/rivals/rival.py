"""What every rival has: a strength, attribute models that it fits, and its part in `pplm.generate`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from pplm.errors import InputError
from pplm.interface import AttributeModel, WeightedAttribute


@dataclass(frozen=True, eq=False)
class Request:
    """What a rival is asked for.

    Attributes
    ----------
    model
        The language model.
    attribute
        The attribute's name in the comparison.
    attributes
        Its attribute models, bound to the language model.
    strength
        See each rival; 0 gives unsteered text.
    sampling
        What transformers' `generate` takes, such as `top_k`.

    """

    model: Any
    attribute: str
    attributes: Sequence[WeightedAttribute]
    strength: float
    sampling: Mapping[str, Any]


class Rival(ABC):
    """A way of generating without gradients, for one attribute; made by `of`.

    Class attributes
    ----------------
    title
        What it does, for the report.
    needs
        What an attribute model must have for it, for a refusal.
    default_strength
        The strength that is taken where none is given.

    """

    title: ClassVar[str]
    needs: ClassVar[str]
    default_strength: ClassVar[float]

    @classmethod
    def check_strength(cls, name: str, strength: Any) -> float:
        """Return the strength, or refuse it by the name of the method."""
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength < math.inf:
            raise InputError(f"the strength of {name} must be a finite number of at least 0; got {strength!r}")
        return float(strength)

    @staticmethod
    @abstractmethod
    def fits(model: AttributeModel) -> bool:
        """Return whether the method has a meaning for an attribute model."""

    @classmethod
    @abstractmethod
    def of(cls, request: Request) -> Rival:
        """Return the rival for an attribute whose models all fit.

        Raises
        ------
        InputError
            If something that the method reads is missing.

        """

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Everything that its texts depend on, as JSON."""

    def prompt(self, prompt: str) -> str:
        """Return what is read in place of a prompt."""
        return prompt

    @contextmanager
    def decoding(self, model: Any) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - for those that hook into it
        """Yield arguments for `pplm.generate`; whatever is hooked into the model is gone afterwards."""
        yield {}
