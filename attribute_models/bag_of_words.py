"""A bag of words: the more probability the next token puts on its words, the lower the loss.

The loss is -log of the probability mass on the bag (paper, section 4.2, eq. 4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attribute_models.word_list import read_word_list, tokenise_words
from pplm.errors import InputError
from pplm.interface import SteeringStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagOfWords:
    """An attribute model made of single tokens.

    Attributes
    ----------
    token_ids
        The bag, sorted and distinct.
    vocab_size
        Of the tokenizer it was made with.
    name
        For reports.
    words, unmatched
        The words behind the ids, and those that are not one token and therefore have no part in the loss.

    """

    token_ids: tuple[int, ...]
    vocab_size: int
    name: str = "bag"
    words: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an empty bag and ids outside the vocabulary."""
        if not self.token_ids:
            missing = f"; none of its {len(self.unmatched)} words is a single token" if self.unmatched else ""
            raise InputError(f"bag of words {self.name!r} is empty{missing}; add words that the tokenizer knows")
        outside = [i for i in self.token_ids if not 0 <= i < self.vocab_size]
        if outside:
            raise InputError(f"bag of words {self.name!r} has token id {outside[0]}, outside 0..{self.vocab_size - 1}")

    @classmethod
    def load(cls, name_or_path: str | Path, tokenizer: Any) -> BagOfWords:
        """Load a shipped bag by name, or a UTF-8 file with one word a line.

        Raises
        ------
        InputError
            If there is no such list, it cannot be read, or none of its words is a single token.

        """
        return cls.from_words(read_word_list(name_or_path), tokenizer, name=Path(name_or_path).stem)

    @classmethod
    def from_words(cls, words: Iterable[str], tokenizer: Any, *, name: str = "bag") -> BagOfWords:
        """Make a bag from words, each matched with a leading space; words of several tokens are logged and left out.

        Raises
        ------
        InputError
            If none of the words is a single token.

        """
        found = tokenise_words(words, tokenizer)
        if found.unmatched and found.words:
            logger.warning(
                "bag of words %r: %d of %d words are not one token of this tokenizer and cannot be credited: %s",
                name,
                len(found.unmatched),
                len(found.unmatched) + len(found.words),
                ", ".join(found.unmatched),
            )
        ids = tuple(sorted(set(found.token_ids)))
        return cls(ids, len(tokenizer), name, found.words, found.unmatched)

    @classmethod
    def from_token_ids(cls, token_ids: Sequence[int], vocab_size: int, *, name: str = "bag") -> BagOfWords:
        """Make a bag from token ids alone."""
        return cls(tuple(sorted({int(i) for i in token_ids})), vocab_size, name)

    def loss(self, step: SteeringStep) -> Tensor:
        """Return -log of the probability mass on the bag: (B,), in nats."""
        size = step.logits.shape[-1]
        if self.token_ids[-1] >= size:
            raise InputError(
                f"bag of words {self.name!r} was made for a vocabulary of {self.vocab_size} tokens, the model has "
                f"{size}; make it with the model's own tokenizer"
            )
        ids = torch.tensor(self.token_ids, device=step.logits.device)
        return -step.log_probs[:, ids].logsumexp(-1)
