"""What every rival has: a strength, attribute models that it fits, and what it changes in `pplm.generate`."""

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
        Arguments of transformers' `generate`, such as `top_k`.

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
        What it needs of an attribute model, for the error that refuses one.
    default_strength
        The strength where none is given.

    """

    title: ClassVar[str]
    needs: ClassVar[str]
    default_strength: ClassVar[float]

    @classmethod
    def check_strength(cls, name: str, strength: Any) -> float:
        """Return the strength, or raise an error that names the method."""
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
        """Return what the model reads in place of a prompt."""
        return prompt

    @contextmanager
    def decoding(self, model: Any) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - for those that hook into it
        """Yield arguments for `pplm.generate`; hooks in the model are removed afterwards."""
        yield {}
