"""What each word of a bag contributes at the next token, by itself: what `pplm.explain` reports."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attribute_models.credit import LEAST_COMPLETION, Prefix, never_begun
from attribute_models.entries import Entry, unspaced
from pplm.interface import AttributeModel, SteeringStep


@dataclass(frozen=True)
class Credit:
    """What one token of one spelling earns.

    Attributes
    ----------
    token, word
        The token's id, and the word's position in `WordShares.words`.
    earns
        The spelling's weight times the probability that the rest of it follows.
    after_opener
        Whether the spelling counts only after an opener (`WordShares.openers`).

    """

    token: int
    word: int
    earns: float
    after_opener: bool


@dataclass(frozen=True, eq=False)
class WordShares:
    """A bag bound to a language model, word by word; also a bag that cannot steer the model.

    Attributes
    ----------
    attribute
        The attribute model to steer with.
    words
        The W words that the tokenizer can spell.
    never_begun
        Those of them that steering cannot begin.
    unmatched
        Listed words that the tokenizer cannot spell.
    credits
        For each beginning of a spelling, the empty one included, the tokens that earn something after it.
    openers
        Tokens after which spellings without a leading space count.

    """

    attribute: AttributeModel
    words: tuple[str, ...]
    never_begun: tuple[str, ...]
    unmatched: tuple[str, ...]
    credits: Mapping[Prefix, Sequence[Credit]]
    openers: frozenset[int]

    @classmethod
    def of(cls, bag: Any) -> WordShares:
        """Tabulate a bag that has its completion probabilities (`BagOfWords.for_model`), or needs none."""
        words: tuple[str, ...] = bag.words
        tables = _credits(bag.entries, bag.completions, {word: number for number, word in enumerate(words)})
        lost = never_begun(bag.entries, bag.completions)
        return cls(bag, words, lost, bag.unmatched, tables, frozenset(bag.openers))

    def avoided_by(self, attribute: AttributeModel) -> WordShares:
        """Return the same words for an attribute model that steers away from them."""
        return replace(self, attribute=attribute)

    def shares(self, step: SteeringStep) -> Tensor:
        """Return each word's share of the bag's level, (B, W): a row adds up to exp(-loss)."""
        p = step.log_probs.detach().exp()
        found = p.new_zeros(len(p), len(self.words))
        for row, ids in enumerate(step.input_ids.tolist()):
            tokens, words, earned = self._after(ids)
            found[row].index_add_(0, words.to(p.device), p[row, tokens.to(p.device)] * earned.to(p))
        return found

    def count(self, text: str) -> dict[str, int]:
        """Return how often each listed word or phrase is in a text, in any case, unspellable ones included."""
        found = {}
        for word in (*self.words, *self.unmatched):
            inside = r"\s+".join(map(re.escape, word.split()))
            found[word] = len(re.findall(inside if unspaced(word) else rf"(?<!\w){inside}(?!\w)", text, re.IGNORECASE))
        return found

    def _after(self, ids: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens that earn something after a text, their words and what they earn: (M,) each."""
        longest = max(map(len, self.credits), default=0)
        found: list[Credit] = []
        for length in range(min(longest, len(ids)) + 1):
            before = ids[: len(ids) - length]
            # The start of a text counts as an opener too, once the text holds the beginning of the word.
            opened = before[-1] in self.openers if before else length > 0
            own = self.credits.get(tuple(ids[len(before) :]), ())
            found += [credit for credit in own if opened or not credit.after_opener]
        tokens = torch.tensor([credit.token for credit in found], dtype=torch.long)
        words = torch.tensor([credit.word for credit in found], dtype=torch.long)
        earned = torch.tensor([credit.earns for credit in found])
        # One token earns at most 1 in all, however many words it begins.
        unique, place = tokens.unique(return_inverse=True)
        total = torch.zeros(len(unique)).index_add_(0, place, earned)
        return tokens, words, earned / total.clamp(min=1.0)[place]


def _credits(
    entries: Sequence[Entry], completions: Sequence[Sequence[float]] | None, numbers: Mapping[str, int]
) -> dict[Prefix, list[Credit]]:
    """Return what each spelling earns after each of its beginnings, the empty one included."""
    found: dict[Prefix, list[Credit]] = defaultdict(list)
    for number, entry in enumerate(entries):
        last = len(entry.token_ids) - 1
        for position, token in enumerate(entry.token_ids):
            rest = 1.0 if position == last else completions[number][position] if completions else 0.0
            if rest >= LEAST_COMPLETION:
                own = Credit(token, numbers[entry.word], entry.weight * rest, entry.after_opener)
                found[entry.token_ids[:position]].append(own)
    return dict(found)
