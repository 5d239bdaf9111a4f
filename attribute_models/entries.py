"""From words to the token sequences that spell them inside a text.

A word has several spellings: with and without a leading space, as written and capitalised. Words of several tokens
and phrases are token sequences like any other. In scripts that put no space between words, a word is matched
anywhere.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from pplm.errors import InputError

_ANCHOR = "a"
"""Some tokenizers treat the start of a text specially, so a word is encoded after this letter, which is cut off."""
_OPENERS = '\n\t "([{/\u2013\u2014\u2018\u201c'
"""After one of these characters a word has no leading space of its own. Apostrophe and hyphen are not among them,
because what follows them is mostly the rest of a word."""

_UNSPACED = (
    "CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "HALFWIDTH KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR",
    "TIBETAN", "JAVANESE", "BALINESE", "TAI ", "NEW TAI LUE",
)  # fmt: skip
"""Beginnings of the Unicode character names of scripts that put no space between words."""


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
        Whether this spelling counts only where a word can begin without a leading space, such as after a new line or
        a bracket. Always False in scripts that put no space between words.

    """

    word: str
    token_ids: tuple[int, ...]
    weight: float = 1.0
    after_opener: bool = False


def weigh_words(words: Iterable[str] | Mapping[str, float], name: str) -> dict[str, float]:
    """Return the words of a bag with their weights, 1 where none is given; runs of spaces in phrases become one.

    Raises
    ------
    InputError
        If `words` is a single text, one of them is empty or not a text, or a weight is not a number above 0.

    """
    if isinstance(words, str):
        raise InputError(f"words must be a list of words; got the text {words!r}")
    weights = {}
    for word, weight in (words if isinstance(words, Mapping) else dict.fromkeys(words, 1.0)).items():
        if not (isinstance(word, str) and word.strip()):
            kind = "an empty word" if isinstance(word, str) else f"{word!r}, which is not a text"
            raise InputError(f"bag of words {name!r} holds {kind}; remove it")
        if not (isinstance(weight, Real) and math.isfinite(weight) and float(weight) > 0):
            raise InputError(f"bag of words {name!r}: the weight of {word!r} must be a number above 0; got {weight!r}")
        weights[" ".join(word.split())] = float(weight)
    return weights


def spell(words: Mapping[str, float], tokenizer: Any, *, casing: bool) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return all spellings of weighted words, and the words that this tokenizer cannot spell.

    Weights are divided by the largest of the words that it can spell, so that the mass of a bag remains a probability.
    """
    entries: dict[tuple[tuple[int, ...], bool], Entry] = {}
    found: set[str] = set()
    variants = [(word, word) for word in words]  # first, so that "may" does not claim a listed "May"
    if casing:
        variants += [(word, variant) for word in words for variant in cases(word)[1:]]
    for word, variant in variants:
        anywhere = unspaced(word)
        for before in (f"{_ANCHOR} ", f"{_ANCHOR} (", *(_ANCHOR, f"{_ANCHOR}\n") * anywhere):
            ids = _encode(variant, tokenizer, before)
            after_opener = before.endswith("(") and not anywhere
            if ids:
                found.add(word)
                entries.setdefault((ids, after_opener), Entry(word, ids, words[word], after_opener))
    largest = max((entry.weight for entry in entries.values()), default=1.0)
    weighted = tuple(replace(entry, weight=entry.weight / largest) for entry in entries.values())
    return weighted, tuple(word for word in words if word not in found)


def unspaced(word: str) -> bool:
    """Return whether a word holds a letter of a script that puts no space between words, as `T恤` and `3月` do."""
    return any(unicodedata.name(letter, "").startswith(_UNSPACED) for letter in word)


def opener_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens after which a word has no leading space: special ones, and those that end in an opener."""
    decoded = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    special = set(tokenizer.all_special_ids)
    return tuple(i for i, text in enumerate(decoded) if i in special or (text and text[-1] in _OPENERS))


def cases(word: str) -> list[str]:
    """Return a lower-case word as written, with a capital first letter and, for a phrase, all words capitalised."""
    if word != word.lower():  # names and acronyms are spelt one way
        return [word]
    return list(
        dict.fromkeys([word, word[0].upper() + word[1:], " ".join(w[:1].upper() + w[1:] for w in word.split())])
    )


def _encode(word: str, tokenizer: Any, before: str) -> tuple[int, ...]:
    """Return a word's tokens when it follows the text `before`, whose trailing space counts as part of the word."""
    anchor = tokenizer.encode(before.rstrip(" "), add_special_tokens=False)
    whole = tokenizer.encode(before + word, add_special_tokens=False)
    ids = tuple(whole[len(anchor) :])
    spelt = whole[: len(anchor)] == anchor and tokenizer.unk_token_id not in ids
    return ids if spelt else ()
