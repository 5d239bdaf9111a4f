"""What a judge is: it reads texts and returns numbers, and it is never the attribute model that steered them.

An attribute model always rates what it has steered highly; the paper asked people instead (section 4). The judges
here are a language model, a sentiment lexicon, a sentence encoder and a held-out head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pplm.batching import in_batches
from pplm.errors import InputError
from pplm.evaluation.counts import words_of

_SHOWN = 40
"""Characters of a text that an error quotes."""


@dataclass(frozen=True)
class JudgedText:
    """A text as a judge sees it.

    Attributes
    ----------
    text
        Prompt and completion together.
    prompt
        The beginning of `text`; "" where unknown: all of `text` then counts as completion.
    attribute
        The topic or class that was wanted; "" for none.

    """

    text: str
    prompt: str = ""
    attribute: str = ""

    def __post_init__(self) -> None:
        """Refuse a prompt that the text does not begin with."""
        if not self.text.startswith(self.prompt):
            raise InputError(
                f"the text {shorten(self.text)!r} does not begin with its prompt {shorten(self.prompt)!r}; pass prompt "
                "and completion together, or no prompt"
            )

    @property
    def completion(self) -> str:
        """What follows the prompt."""
        return self.text[len(self.prompt) :]


class Judge(Protocol):
    """Anything that returns numbers for texts.

    Attributes
    ----------
    name
        For reports, such as "vaderSentiment".
    columns
        The names of its numbers.

    """

    name: str
    columns: tuple[str, ...]

    def judge(self, texts: Sequence[JudgedText]) -> list[tuple[float, ...]]:
        """Return one tuple per text, in the order of `columns`; NaN where the judge has no number."""
        ...


@runtime_checkable
class ModelJudge(Protocol):
    """A judge that is a language model and recognises itself."""

    name: str

    def is_same_model(self, model: Any) -> bool:
        """Return whether `model` has the judge's weights."""
        ...


class HeadJudge:
    """A discriminator that steered nothing: the probability of the wanted class.

    It reads prompt and completion together, as heads are trained on whole texts. A text without a word gets NaN.
    """

    def __init__(self, classify: Callable[[Sequence[str]], Iterable[float]], name: str, column: str) -> None:
        """Take a function from N texts to N probabilities, the judge's name, and the name of its column."""
        self.name = name
        self.columns: tuple[str, ...] = (column,)
        self._classify = classify

    def judge(self, texts: Sequence[JudgedText]) -> list[tuple[float, ...]]:
        """Return (probability,) of each text.

        Raises
        ------
        InputError
            If the function does not return one number from 0 to 1 per text.

        """
        rows = [number for number, text in enumerate(texts) if words_of(text.text)]
        given = in_batches([texts[row].text for row in rows], None, self._checked)
        return in_order(len(texts), rows, given)

    def _checked(self, texts: Sequence[str]) -> list[float]:
        given = [float(value) for value in self._classify(texts)]
        if len(given) != len(texts):
            raise InputError(
                f"{self.name}: classify must return one probability per text; got {len(given)} for {len(texts)}"
            )
        strange = next((value for value in given if not 0 <= value <= 1), None)
        if strange is not None:
            raise InputError(f"{self.name}: classify must return probabilities from 0 to 1; got {strange}")
        return given


def check_independent(judge: Judge, model: Any, *, insist: bool) -> str | None:
    """Refuse a judge that is the steered model itself.

    A copy in another number format is recognised. A quantised or fine-tuned copy counts as another model.

    Returns
    -------
    None, or the sentence that a report must carry if the user insists.

    Raises
    ------
    InputError
        If the judge is the steered model, and the user does not insist.

    """
    if not isinstance(judge, ModelJudge) or not judge.is_same_model(model):
        return None
    if not insist:
        raise InputError(
            f"the judge {judge.name} is the steered model itself, which finds its own texts likely; pass another "
            "judge, or insist on this one"
        )
    return f"The judge {judge.name} is the steered model itself, which finds its own texts likely."


def in_order(count: int, rows: Sequence[int], values: Sequence[float]) -> list[tuple[float, ...]]:
    """Return one single-number tuple per text: `values` at `rows`, NaN elsewhere."""
    result: list[tuple[float, ...]] = [(float("nan"),)] * count
    for row, value in zip(rows, values, strict=True):
        result[row] = (value,)
    return result


def shorten(text: str) -> str:
    """Return the beginning of a text, for an error message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else flat[:_SHOWN] + "..."
