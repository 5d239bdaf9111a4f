"""A bag of words and phrases: the more probability the next token gives them, the lower the loss.

The loss is -log of the probability mass on the bag (paper, section 4.2, eq. 4). The paper's bags are single
tokens; here an entry may be any sequence of tokens. At each step these next tokens are credited:

- a single-token entry, with its weight;
- the first piece of a longer entry, with the entry's weight times the probability that the piece is completed into
  the entry, or not at all where that probability is below `LEAST_COMPLETION`. " s" begins thousands of words, so it
  earns nothing for saucepan;
- the next piece of an entry whose beginning the text already ends with, by the same rule; the last piece earns the
  whole weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribute_models.bag_report import BagReport
from attribute_models.completion import check_fits, completion_probabilities
from attribute_models.credit import CreditTables, never_begun
from attribute_models.entries import Entry, opener_ids, spell, weigh_words
from attribute_models.own_texts import own_texts
from attribute_models.seed_words import neighbours
from attribute_models.word_list import read_word_list, write_word_list
from attribute_models.word_marks import mark_tokens, mark_words, pattern_of
from attribute_models.word_shares import WordShares
from pplm.attached import attached
from pplm.errors import InputError
from pplm.files.progress import OnProgress
from pplm.interface import SteeringStep, WholeText, check_tokenizer
from pplm.models.fingerprint import tokenizer_fingerprint, weight_hashes


@dataclass(frozen=True, eq=False, repr=False)
class BagOfWords:
    """An attribute model made of token sequences.

    Attributes
    ----------
    entries
        The spellings of the bag's words.
    vocab_size
        Of the tokenizer it was made with.
    name
        For reports.
    unmatched
        Words that the tokenizer cannot spell and that are therefore left out of the loss.
    openers
        Tokens after which spellings without a leading space count.
    completions
        For each spelling, the steered language model's probability of the rest after its first 1, 2, ... tokens. None
        until `for_model` fills it in; until then beginnings of words earn nothing.
    tokenizer_fingerprint
        Of the tokenizer it was made with (`pplm.models.fingerprint`); None if it was made from token ids.
    casing
        Whether the entries of `space` include spellings of `Space`.

    """

    entries: tuple[Entry, ...]
    vocab_size: int
    name: str = "bag"
    unmatched: tuple[str, ...] = ()
    openers: tuple[int, ...] = ()
    completions: tuple[tuple[float, ...], ...] | None = None
    tokenizer_fingerprint: str | None = None
    casing: bool = True

    def __repr__(self) -> str:
        """Name the bag instead of printing its thousands of tokens."""
        return f"BagOfWords({self.name!r}, {len(self.words)} words, {len(self.entries)} spellings)"

    def __post_init__(self) -> None:
        """Refuse plain words in place of entries, an empty bag, and token ids outside the vocabulary."""
        if not all(isinstance(entry, Entry) for entry in self.entries):
            raise InputError(
                f"BagOfWords takes spelt entries; got {self.entries!r}. Use BagOfWords.from_words(words, tokenizer)"
            )
        if not self.entries:
            missing = f"; the tokenizer can spell none of its {len(self.unmatched)} words" if self.unmatched else ""
            raise InputError(f"bag of words {self.name!r} is empty{missing}; add words that the tokenizer can spell")
        outside = [i for entry in self.entries for i in entry.token_ids if not 0 <= i < self.vocab_size]
        if outside:
            raise InputError(f"bag of words {self.name!r} has token id {outside[0]}, outside 0..{self.vocab_size - 1}")

    @classmethod
    def load(cls, name_or_path: str | Path, tokenizer: PreTrainedTokenizerBase, *, casing: bool = True) -> BagOfWords:
        """Load a shipped bag by name, or a file of words and phrases in a form that `read_word_list` reads.

        Raises
        ------
        InputError
            If there is no such list, it cannot be read, or the tokenizer can spell none of its words.

        """
        return cls.from_words(read_word_list(name_or_path), tokenizer, name=Path(name_or_path).stem, casing=casing)

    @classmethod
    def from_words(
        cls,
        words: Iterable[str] | Mapping[str, float],
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "bag",
        casing: bool = True,
    ) -> BagOfWords:
        """Make a bag from words and phrases, or from a mapping of them to weights.

        Parameters
        ----------
        words
            Matched as whole words: with a leading space, or without one after an opening bracket, a new line and the
            like; anywhere in scripts that put no space between words, such as Chinese.
        tokenizer
            Of the model to be steered.
        name, casing
            A name for reports; whether a listed `space` also matches `Space`.

        Raises
        ------
        InputError
            If `words` is a single text, one is empty or not a text, a weight is not a number above 0, or none can be
            spelt.

        """
        weights = weigh_words(words, name)
        entries, unmatched = spell(weights, tokenizer, casing=casing)
        fingerprint = tokenizer_fingerprint(tokenizer)
        openers = opener_ids(tokenizer)
        return cls(entries, len(tokenizer), name, unmatched, openers, None, fingerprint, casing)

    @classmethod
    def from_token_ids(cls, token_ids: Sequence[int], vocab_size: int, *, name: str = "bag") -> BagOfWords:
        """Make a bag of single tokens from their ids, like the bags of the paper."""
        ids = sorted({int(i) for i in token_ids})
        return cls(tuple(Entry(str(i), (i,)) for i in ids), vocab_size, name)

    @classmethod
    def from_seeds(
        cls, seeds: Sequence[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, size: int = 60
    ) -> BagOfWords:
        """Make a bag from a few seed words and their nearest neighbours in the model's own embeddings.

        Neighbours are only as good as the embeddings: look at `words`, and save the bag to edit it. An `InputError`
        is raised if there are no seeds, one cannot be spelt, `size` does not fit, or the tokenizer is not the model's.
        """
        check_tokenizer("the bag of seed words", tokenizer_fingerprint(tokenizer), attached(model).tokenizer)
        if isinstance(seeds, str):
            raise InputError(f"seeds must be a list of words; got the text {seeds!r}")
        words = neighbours(seeds, model, tokenizer, size=size)
        return cls.from_words(list(words), tokenizer, name="+".join(seed.strip() for seed in seeds))

    @property
    def weights(self) -> dict[str, float]:
        """The bag's words with their weights, relative to the largest of them."""
        return {entry.word: entry.weight for entry in self.entries}

    @property
    def words(self) -> tuple[str, ...]:
        """The words that the tokenizer can spell, as listed."""
        return tuple(self.weights)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The ids of single-token entries, in order."""
        return tuple(sorted({entry.token_ids[0] for entry in self.entries if len(entry.token_ids) == 1}))

    @property
    def long_words(self) -> tuple[str, ...]:
        """The words that take several tokens in every spelling."""
        short = {entry.word for entry in self.entries if len(entry.token_ids) == 1}
        return tuple(word for word in self.words if word not in short)

    def save(self, path: str | Path) -> None:
        """Write the words and weights as a list that `load` reads."""
        write_word_list(path, self.weights)

    def report(self, model: PreTrainedModel | None = None) -> BagReport:
        """Return what became of the listed words and, given a language model, the bag's mean mass in its own texts."""
        mass, bag = None, self
        if model is not None:
            bag = self.for_model(model)
            texts, log_probs = own_texts(model)
            masses = [bag._log_mass(texts[:, : n + 1], log_probs[:, n]) for n in range(texts.shape[1])]
            mass = float(torch.stack(masses).exp().mean())
        return BagReport(
            name=self.name,
            words=len(self.words),
            long_words=self.long_words,
            unmatched=self.unmatched,
            spellings=len(self.entries),
            tokens=len({token for entry in self.entries for token in entry.token_ids}),
            never_begun=never_begun(bag.entries, bag.completions),
            mass=mass,
        )

    def for_model(
        self, model: PreTrainedModel, *, avoided: bool = False, on_progress: OnProgress | None = None
    ) -> BagOfWords:
        """Return the bag with this language model's completion probabilities, computed once per model and weights.

        Steering cannot begin a word whose first token earns nothing in any spelling, nor one that cannot be spelt; a
        `SteeringWarning` is given if that holds for more than half of the listed words.

        Parameters
        ----------
        avoided
            Whether the bag is steered away from, for which steering need not begin any of its words.
        on_progress
            Called with how many spellings have been read and how many there are.

        Raises
        ------
        InputError
            If none of the words can be begun, one is longer than the model's context, or the bag was made with another
            tokenizer.

        """
        check_tokenizer(f"bag of words {self.name!r}", self.tokenizer_fingerprint, attached(model).tokenizer)
        self._check_rows(model.get_input_embeddings().weight.shape[0])
        bound = self
        if any(len(entry.token_ids) > 1 for entry in self.entries):
            # Merging an adapter changes weights where autograd does not count it, so their values are compared.
            weights = weight_hashes(model)["float32"]
            if self._bound.get(model, ("",))[0] != weights:
                sequences = [entry.token_ids for entry in self.entries]
                check_fits(model, self.entries)
                bound = replace(self, completions=completion_probabilities(model, sequences, on_progress))
                vars(bound)["_bound"] = self._bound  # so that calling it on either bag finds the result
                self._bound[model] = weights, bound
            bound = self._bound[model][1]
        if not avoided:
            bound.report().check_begun()
        bound._tables_on(model.get_input_embeddings().weight.device)  # made now, so that no token waits for them
        return bound

    def for_explanation(self, model: PreTrainedModel) -> WordShares:
        """Return the bag word by word for this language model, even if steering can begin none of its words."""
        return WordShares.of(self.for_model(model, avoided=True))

    def log_mass(self, step: SteeringStep) -> Tensor:
        """Return the log of the next-token mass on credited tokens, credits included: (B,); -inf without any."""
        return self._log_mass(step.input_ids, step.log_probs)

    def loss(self, step: SteeringStep) -> Tensor:
        """Return -log of the probability mass on the bag: (B,), in nats; infinite where no token is credited."""
        return -self.log_mass(step)

    def text_loss(self, text: WholeText) -> Tensor:
        """Return the mean of -log p(bag) along each text: (B,), in nats; infinite where no token was ever credited.

        The paper ranks by the attribute model's likelihood of the whole text (section 3.4) and does not define that
        for a bag, which only rates one next token. Here it is the steering loss under the unsteered model's
        distributions, from the one after the prompt's last token to the one after the text's. It is a mean, not a sum,
        so that a text does not gain by ending early; positions where no token is credited are left out, as in steering.
        """
        positions = text.ahead.any(0).nonzero()[:, 0].tolist()
        masses = [self._log_mass(text.input_ids[:, : n + 1], text.log_probs[:, n]) for n in positions]
        log_mass = torch.stack(masses, dim=1)
        counts = text.ahead[:, positions] & log_mass.isfinite()
        mean = torch.where(counts, log_mass, 0.0).sum(1) / counts.sum(1)
        return torch.where(counts.any(1), -mean, torch.inf)

    def words_in(self, token_ids: Sequence[int], texts: Sequence[str], before: str = "") -> list[bool]:
        """Return which tokens are part of one of the words, given what each adds to the text that begins with `before`.

        Words are found in the text, however it is cut into tokens; a bag made from token ids looks for those ids.
        """
        if self.tokenizer_fingerprint is None:
            return mark_tokens([entry.token_ids for entry in self.entries], token_ids)
        return mark_words(self._pattern, texts, before)

    def _log_mass(self, input_ids: Tensor, log_probs: Tensor) -> Tensor:
        """Return the log of the mass on credited tokens (B,), from texts (B, T) and log-probabilities (B, V)."""
        self._check_rows(log_probs.shape[-1])
        tables = self._tables_on(log_probs.device)
        credit = tables.credit_once(input_ids)
        credited = (credit > 0).any(-1)
        # Masked before the sum: the gradient of logsumexp over a row of -inf is NaN, even where the result is not used.
        weighed = torch.where(credited[:, None], log_probs[:, tables.columns] + credit.log(), 0.0)
        return torch.where(credited, weighed.logsumexp(-1), -torch.inf)

    def _check_rows(self, size: int) -> None:
        """Refuse a model of `size` tokens that lacks a token of an entry; tokens that no entry uses may be missing."""
        if self._largest_id >= size:
            raise InputError(
                f"bag of words {self.name!r} was made for a vocabulary of {self.vocab_size} tokens, the model has "
                f"{size} and lacks token {self._largest_id}; make it with the model's own tokenizer"
            )

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return pattern_of(self.words, casing=self.casing)

    @cached_property
    def _largest_id(self) -> int:
        return max(max(entry.token_ids) for entry in self.entries)

    @cached_property
    def _bound(self) -> WeakKeyDictionary[Any, tuple[str, BagOfWords]]:
        """For each language model still in memory: the hash of its weights, and the bag bound to it."""
        return WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_bound"}  # weak references do not travel

    @cached_property
    def _tables(self) -> dict[torch.device, CreditTables]:
        return {}

    def _tables_on(self, device: torch.device) -> CreditTables:
        """Return the credit tables on a device; they are made once per device."""
        if device not in self._tables:
            # They are kept for calls that need gradients, in which tensors made in inference mode cannot take part.
            with torch.inference_mode(False):
                self._tables[device] = CreditTables.of(self.entries, self.openers, self.completions, device)
        return self._tables[device]
