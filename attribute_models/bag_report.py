"""What became of a bag's words: a report for people."""

from __future__ import annotations

from dataclasses import dataclass


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
        The words whose every beginning is too common to be credited (" for" of fork): they are completed where the
        text happens to begin them. Known once a language model has been asked.
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

    def __str__(self) -> str:
        """Return one line for people."""
        text = f"bag {self.name}: {self.words} words"
        if self.long_words:
            text += f", {len(self.long_words)} of them of several tokens, matched piece by piece"
        if self.never_begun:
            text += f", {len(self.never_begun)} of these begin like too many other words and are only completed"
        if self.unmatched:
            text += f", {len(self.unmatched)} cannot be spelt and are left out: {', '.join(self.unmatched)}"
        if self.mass is not None:
            text += f"; unsteered mass {self.mass:.2%}"
        return text
