"""What became of a bag's words: a report for people."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from pplm.errors import InputError, SteeringWarning


@dataclass(frozen=True)
class BagReport:
    """How a tokenizer spells a bag, and how a language model (if one was given) sees it.

    Attributes
    ----------
    name
        Name of the bag.
    words
        Number of words and phrases that the tokenizer can spell.
    long_words
        Those that take several tokens in every spelling, and are therefore matched piece by piece.
    unmatched
        Words that were listed and that the tokenizer cannot spell.
    spellings, tokens
        Number of spellings of the words, and of different tokens in them.
    never_begun
        Words whose first token is too common to reward in every spelling (" for" of fork): only their later tokens are
        credited, where the text happens to begin them. Empty until the bag is bound to a language model.
    mass
        Mean over the unsteered model's own texts of the next-token probability on credited tokens, each times its
        credit; None if no model was given.

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
        """Refuse a bag with no word that steering can begin; warn if it can begin fewer than half of the listed ones.

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
