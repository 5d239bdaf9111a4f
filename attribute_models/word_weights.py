"""Automatic weights: keep the frequent words of a bag from drowning the rare ones."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribute_models.completion import check_fits, completion_probabilities
from attribute_models.entries import spell, unspaced
from attribute_models.own_texts import own_texts
from pplm.errors import InputError
from pplm.files.progress import OnProgress
from pplm.files.reading import read_text

_SMALLEST = 1e-30
"""Words that are less probable than this, or cannot be spelt, count as this probable."""


def weights_by_probability(
    words: Mapping[str, float],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    on_progress: OnProgress | None = None,
) -> dict[str, float]:
    """Weigh words by the inverse of the language model's own probability of them.

    A word's probability is averaged over the next-token distributions of texts that the model itself writes. Words
    more probable than the bag's median get the weight median / probability, so that each contributes as much as the
    median word; rarer words get weight 1, because an unbounded inverse would let one stray word dominate instead.

    Parameters
    ----------
    words
        Words with weights of their own, by which the result is multiplied.
    model, tokenizer
        The language model to be steered.
    on_progress
        Called with how many spellings have been read and how many there are.

    """
    average = own_texts(model)[1].exp().mean((0, 1)).cpu()
    entries, _ = spell(words, tokenizer, casing=True)
    check_fits(model, entries)
    completions = completion_probabilities(model, [entry.token_ids for entry in entries], on_progress)
    probability = dict.fromkeys(words, 0.0)
    for entry, rest in zip(entries, completions, strict=True):
        probability[entry.word] += float(average[entry.token_ids[0]]) * (rest[0] if rest else 1.0)
    middle = max(median(probability.values()), _SMALLEST)
    return {word: weight * min(1.0, middle / max(probability[word], _SMALLEST)) for word, weight in words.items()}


def weights_by_rarity(words: Mapping[str, float], path: str | Path) -> dict[str, float]:
    """Weigh words by inverse document frequency, every line of a UTF-8 text file being a document.

    The weight is the word's own times log((1 + lines) / (1 + lines with the word)), upper and lower case alike. A word
    that is in every line gets the smallest weight of the others.

    Raises
    ------
    InputError
        If the file cannot be read, is not UTF-8 or holds no text, or every line holds every word.

    """
    lines = [line.lower() for line in read_text("text file", Path(path)).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"text file {path} holds no text; name one with many lines")
    weights = {}
    for word, weight in words.items():
        pattern = re.compile(re.escape(word.lower()) if unspaced(word) else rf"(?<!\w){re.escape(word.lower())}(?!\w)")
        hits = sum(pattern.search(line) is not None for line in lines)
        weights[word] = weight * math.log((1 + len(lines)) / (1 + hits))
    if not any(weights.values()):
        raise InputError(f"text file {path}: each of its {len(lines)} lines holds every word; use a longer text")
    smallest = min(weight for weight in weights.values() if weight > 0)
    return {word: weight or smallest for word, weight in weights.items()}
