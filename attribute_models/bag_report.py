"""What became of a bag's words: a report for people."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from pplm.errors import InputError, SteeringWarning


@dataclass(frozen=True)
class BagReport:
    """What a tokenizer, and if asked a language model, makes of a bag.

    Attributes
    ----------
    name
        Of the bag.
    words
        How many words and phrases are in it.
    long_words
        Those that are no single token in any spelling, and are therefore matched piece by piece.
    unmatched
        Words that were listed and that the tokenizer cannot spell.
    spellings, tokens
        How many spellings the words have, and how many different tokens these use.
    never_begun
        The words whose every first token is too common to be rewarded (" for" of fork): only their later tokens are
        credited, where the text happens to begin them. Empty until the bag is bound to a language model.
    mass
        Mean probability, in the unsteered model's own texts, that the next token is a credited one, its credit
        included; None if no model was asked.

    """

    name: str
    words: int
    long_words: tuple[str, ...]
    unmatched: tuple[str, ...]
    spellings: int
    tokens: int
    never_begun: tuple[str, ...] = ()
    mass: float | None = None

    def check_begun(self) -> None:
        """Refuse a bag that would leave texts unsteered, and warn of one that mostly would.

        Raises
        ------
        InputError
            If steering can begin none of the words.

        """
        lost, listed = (*self.never_begun, *self.unmatched), self.words + len(self.unmatched)
        if 2 * len(lost) <= listed:
            return
        begun = f"{listed - len(lost)} of its {listed}" if len(lost) < listed else "none of its"
        shown = ", ".join(lost[:3]) + ", ..." * bool(lost[3:])
        problem = (
            f"bag {self.name}: steering can begin {begun} words; without {shown}, which the tokenizer cannot spell or "
            "whose first token is too common to reward; list words in the model's language, one per line, that it "
            "spells with one or two tokens"
        )
        if len(lost) == listed:
            raise InputError(problem)
        warnings.warn(problem, SteeringWarning, stacklevel=2)

    def __str__(self) -> str:
        """Return one line for people."""
        text = f"bag {self.name}: {self.words} words"
        if self.long_words:
            text += f", {len(self.long_words)} of them of several tokens"
        if lost := len(self.never_begun):
            text += (
                f"; steering can begin {self.words - lost} of them, and only completes the other {lost}, whose first "
                "token is too common to reward"
            )
        if self.unmatched:
            text += f"; {len(self.unmatched)} cannot be spelt and are left out: {', '.join(self.unmatched)}"
        if self.mass is not None:
            text += f"; unsteered mass {self.mass:.2%}"
        return text
