"""Which tokens of a text are part of a bag's words, for a reader who wants to see them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from attribute_models.entries import cases, unspaced

Span = tuple[int, int]


def pattern_of(words: Iterable[str], *, casing: bool) -> re.Pattern[str]:
    """Return a pattern that finds whole words and phrases, with `casing` in every case that a bag spells them in.

    Words of scripts that put no space between words are found anywhere.
    """
    spelt = {own for word in words for own in (cases(word) if casing else [word])}
    # Longest first: of several words that begin at one place, the pattern takes the longest.
    parts = [_alone(word) for word in sorted(spelt, key=lambda word: (-len(word), word))]
    return re.compile(f"(?=({'|'.join(parts)}))")


def mark_words(pattern: re.Pattern[str], texts: Sequence[str], before: str) -> list[bool]:
    """Return which tokens are part of a word, given what each adds to the text that begins with `before`.

    A token that adds nothing, such as the first bytes of a character, belongs to what follows.
    """
    spans = [match.span(1) for match in pattern.finditer(before + "".join(texts))]
    places = _places(texts, len(before))
    return [any((a < stop and start < b) or a <= start == stop < b for a, b in spans) for start, stop in places]


def mark_tokens(sequences: Iterable[Sequence[int]], token_ids: Sequence[int]) -> list[bool]:
    """Return which tokens are part of one of the sequences of tokens."""
    marks = [False] * len(token_ids)
    for sequence in map(list, sequences):
        for start in range(len(token_ids) - len(sequence) + 1):
            stop = start + len(sequence)
            if list(token_ids[start:stop]) == sequence:
                marks[start:stop] = [True] * len(sequence)
    return marks


def _alone(word: str) -> str:
    escaped = r"\s+".join(map(re.escape, word.split()))
    return escaped if unspaced(word) else rf"(?<!\w){escaped}(?!\w)"


def _places(texts: Sequence[str], start: int) -> Iterator[Span]:
    for text in texts:
        yield start, start + len(text)
        start += len(text)
