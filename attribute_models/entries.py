"""From words to the token sequences that spell them inside a text.

A word has several spellings: with and without a leading space, as written and capitalised. Words of several
tokens and phrases are sequences like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ANCHOR = "a"
"""Some tokenizers treat the start of a text specially, so a word is encoded behind this and the anchor cut off."""
_OPENERS = '\n\t "([{/\u2013\u2014\u2018\u201c'
"""A word that follows one of these characters has no leading space of its own. Apostrophe and hyphen are not among
them: what follows those is mostly the rest of a word."""


@dataclass(frozen=True)
class Entry:
    """One spelling of one word.

    Attributes
    ----------
    word
        As listed.
    token_ids
        One token or more.
    weight
        Above 0, at most 1 within a bag.
    after_opener
        Whether this spelling, which has no leading space, only counts where the text has just opened a word, as
        after a new line or a bracket.

    """

    word: str
    token_ids: tuple[int, ...]
    weight: float = 1.0
    after_opener: bool = False


def spell(words: Mapping[str, float], tokenizer: Any, *, casing: bool) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return all spellings of weighted words, and the words that this tokenizer cannot spell.

    Weights are scaled so that the largest is 1, which keeps the mass of a bag a probability.
    """
    largest = max(words.values(), default=1.0)
    entries: dict[tuple[tuple[int, ...], bool], Entry] = {}
    found: set[str] = set()
    variants = [(word, word) for word in words]  # first, so that "may" does not take what "May" is listed for
    if casing:
        variants += [(word, variant) for word in words for variant in _cases(word)[1:]]
    for word, variant in variants:
        for after_opener in (False, True):
            ids = _encode(variant, tokenizer, leading_space=not after_opener)
            if ids:
                found.add(word)
                entries.setdefault((ids, after_opener), Entry(word, ids, words[word] / largest, after_opener))
    return tuple(entries.values()), tuple(word for word in words if word not in found)


def opener_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens after which a word has no leading space: those that end in an opening character."""
    decoded = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    special = set(tokenizer.all_special_ids)
    return tuple(i for i, text in enumerate(decoded) if i in special or (text and text[-1] in _OPENERS))


def _cases(word: str) -> list[str]:
    """Return a word as written, with a capital first letter and, for a phrase, with a capital in every word."""
    if word != word.lower():  # names and acronyms are spelt one way
        return [word]
    return list(
        dict.fromkeys([word, word[0].upper() + word[1:], " ".join(w[:1].upper() + w[1:] for w in word.split())])
    )


def _encode(word: str, tokenizer: Any, *, leading_space: bool) -> tuple[int, ...]:
    """Return a word's tokens as they stand behind a space, or directly behind an opening bracket."""
    anchor = _ANCHOR if leading_space else f"{_ANCHOR} ("
    before = tokenizer.encode(anchor, add_special_tokens=False)
    whole = tokenizer.encode(f"{anchor} {word}" if leading_space else f"{anchor}{word}", add_special_tokens=False)
    ids = tuple(whole[len(before) :])
    spelt = whole[: len(before)] == before and tokenizer.unk_token_id not in ids
    return ids if spelt else ()
