"""Which next tokens a bag of words credits after a text, and how much: the tables behind `BagOfWords`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attribute_models.entries import Entry
from pplm.private_names import version_of

Prefix = tuple[int, ...]

LEAST_COMPLETION = 0.01
"""A beginning is not credited if the probability that it is completed into its entry is below this. The credit would be
small, but on pieces that are common anyway (" for" of fork): steering would raise those pieces without the words."""
_NOTHING = (None, 0, None)


@dataclass(frozen=True, eq=False)
class CreditTables:
    """Which tokens are credited after which beginnings; K tokens in all, one column each.

    Attributes
    ----------
    columns
        (K,) token ids.
    anywhere, after_opener
        (K,) credits of first tokens: in any place, and those added after an opener.
    openers
        Ids of the tokens after which a word has no leading space.
    continuing
        By length n, and by whether they count only after an opener: P beginnings (P, n) that the text may end with, and
        the credits (P, K) of the tokens that follow each.

    """

    columns: Tensor
    anywhere: Tensor
    after_opener: Tensor
    openers: Tensor
    continuing: Mapping[tuple[int, bool], tuple[Tensor, Tensor]]
    _latest: list[tuple[Tensor | None, int, Tensor | None]] = field(default_factory=lambda: [_NOTHING], repr=False)

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        openers: Sequence[int],
        completions: Sequence[Sequence[float]] | None,
        device: torch.device,
    ) -> CreditTables:
        """Tabulate the entries' credits on a device; without `completions` only last tokens of entries are credited."""
        columns = sorted({token for entry in entries for token in entry.token_ids})
        index = {token: column for column, token in enumerate(columns)}
        rows: dict[tuple[Prefix, bool], Tensor] = defaultdict(lambda: torch.zeros(len(columns)))
        for number, entry in enumerate(entries):
            last = len(entry.token_ids) - 1
            for position, token in enumerate(entry.token_ids):
                rest = 1.0 if position == last else completions[number][position] if completions else 0.0
                if rest < LEAST_COMPLETION:
                    continue
                rows[entry.token_ids[:position], entry.after_opener][index[token]] += entry.weight * rest
        by_length: dict[tuple[int, bool], list[Prefix]] = defaultdict(list)
        for prefix, after_opener in rows:
            by_length[len(prefix), after_opener].append(prefix)
        continuing = {
            (length, opens): (
                torch.tensor(prefixes, device=device),
                torch.stack([rows[prefix, opens] for prefix in prefixes]).to(device),
            )
            for (length, opens), prefixes in by_length.items()
            if length
        }
        return cls(
            torch.tensor(columns, device=device),
            rows[(), False].to(device),
            rows[(), True].to(device),
            torch.tensor(openers, dtype=torch.long, device=device),
            continuing,
        )

    def credit_once(self, input_ids: Tensor) -> Tensor:
        """Return `credit(input_ids)`, computed once per token: all iterations of a step pass the same tensor."""
        if input_ids.is_inference():  # such a tensor has no version counter to show that it changed
            return self.credit(input_ids)
        known, version, credit = self._latest[0]
        if known is not input_ids or version != version_of(input_ids) or credit is None:
            credit = self.credit(input_ids)
            self._latest[0] = (input_ids, version_of(input_ids), credit)  # at once: another thread sees all or none
        return credit

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_latest": [_NOTHING]}  # the texts seen last are not pickled

    def credit(self, input_ids: Tensor) -> Tensor:
        """Return the credits (B, K), at most 1, of the next token after each text (B, T) on the tables' device."""
        width = input_ids.shape[1]
        longest = max((length for length, _ in self.continuing), default=0)
        # Not `isin`, which synchronises with an accelerator if there are many openers.
        opened = (input_ids[:, -longest - 1 :, None] == self.openers).any(-1)  # (B, longest + 1)
        credit = self.anywhere + opened[:, -1:] * self.after_opener
        for (length, after_opener), (prefixes, credits_after) in self.continuing.items():
            if length > width:
                continue
            matches = (input_ids[:, None, -length:] == prefixes).all(-1)
            if after_opener and length < width:  # the start of a text opens a word as well
                matches &= opened[:, -length - 1, None]
            credit = credit + matches.float() @ credits_after
        return credit.clamp(max=1.0)


def never_begun(entries: Sequence[Entry], completions: Sequence[Sequence[float]] | None) -> tuple[str, ...]:
    """Return the words whose first token earns nothing in any spelling; empty if `completions` is None."""
    if completions is None:
        return ()
    chances = zip(entries, completions, strict=True)
    begun = {entry.word for entry, rest in chances if not rest or rest[0] >= LEAST_COMPLETION}
    return tuple(word for word in dict.fromkeys(entry.word for entry in entries) if word not in begun)
