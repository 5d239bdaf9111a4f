"""Prompting: a line that names the attribute stands before the prompt. Nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pplm.comparison.rivals.rival import Request, Rival
from pplm.errors import InputError
from pplm.interface import AttributeModel


@dataclass(frozen=True, eq=False)
class PromptLine(Rival):
    """Ask for the attribute in words.

    p'(x | prompt) = p(x | line + prompt), where the line is "About space:" for a bag and "A positive text:" for a
    head's class. Only the completion is measured, and texts are stored without the line.

    Attributes
    ----------
    strength
        How many times the line is put before the prompt (a whole number >= 0; 0 leaves it out).
    line
        The line, or several, without a final line break.

    """

    title = "a line that names the attribute before the prompt"
    needs = "an attribute to write towards, not one to avoid"
    default_strength = 1.0

    strength: float
    line: str

    @classmethod
    def check_strength(cls, name: str, strength: Any) -> float:
        """Return the strength, or raise an error that names the method."""
        value = super().check_strength(name, strength)
        if not value.is_integer():
            raise InputError(f"the strength of {name} counts lines and must be a whole number; got {strength!r}")
        return value

    @staticmethod
    def fits(model: AttributeModel) -> bool:
        """Return whether a line can ask for the attribute: not for one that is to be avoided."""
        return not getattr(model, "may_be_idle", False)

    @classmethod
    def of(cls, request: Request) -> PromptLine:
        """Return the method for an attribute's name, or for its head's class."""
        labels = [getattr(attribute.model, "label", None) for attribute in request.attributes]
        lines = [f"About {request.attribute}:" if label is None else _of_label(str(label)) for label in labels]
        return cls(request.strength, "\n".join(dict.fromkeys(lines)))

    @property
    def record(self) -> dict[str, Any]:
        """The line, and how often it is put before the prompt."""
        return {"strength": self.strength, "line": self.line}

    def prompt(self, prompt: str) -> str:
        """Return a prompt with the line before it."""
        return f"{self.line}\n" * int(self.strength) + prompt


def _of_label(label: str) -> str:
    article = "An" if label[:1].lower() in "aeiou" else "A"
    return f"{article} {label} text:"
