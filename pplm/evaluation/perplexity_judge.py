"""A language model as judge of fluency: how likely it finds what another model wrote.

The paper used GPT (Radford et al. 2018). Low is not good by itself: text that repeats itself is very likely.

Any number of texts may be judged at once: apart from the texts' tokens, memory holds a bounded number of logits.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pplm.batching import in_batches, in_like_lengths
from pplm.checks import check_whole
from pplm.errors import InputError
from pplm.evaluation.judges import JudgedText, shorten
from pplm.models.fingerprint import same_weights, weight_hashes
from pplm.models.loading import load_model
from pplm.models.resources import local_path
from pplm.products import fast_products
from pplm.text.encoding import check_text, encode_with_starts, mask_arguments, pad_right

_LOGITS = 2**26
"""Logits that are computed at once, 256 MB in float32; a text that has more is read alone."""
_WIDTH = 16
"""Texts are padded to a multiple of this many tokens: oneDNN keeps up to 0.6 MB of code for each shape it meets."""
_POSITIONS = 128
"""Positions of a text whose losses are computed at once."""
_ENCODED = 512
"""Texts that the tokenizer reads at once; what it returns takes a hundred times the memory of what is kept."""


@dataclass(frozen=True)
class _Row:
    """A text's T tokens, compactly: their `ids`, and T - 1 bytes, 0 or 1: which tokens after the first count."""

    ids: array[int]
    counted: bytes


class PerplexityJudge:
    """Negative log-likelihood of the completion given the prompt, in nats, and its number of tokens.

    The whole text is tokenized, and the tokens that begin at or after the prompt's end count; without a prompt all do.
    The model's beginning-of-text token is put in front; a model that has none cannot judge a text's first token, which
    then does not count. `pplm.evaluation.perplexity` turns the two numbers into a perplexity.
    """

    columns: tuple[str, ...] = ("nll", "tokens")

    def __init__(self, model: Any, tokenizer: Any, name: str, *, batch_size: int = 16) -> None:
        """Take a causal language model that is on its device, its tokenizer, and a name for reports.

        `batch_size` texts are read at once (>= 1), and fewer where memory runs out; the numbers do not depend on it.
        """
        self.batch_size = check_whole("batch_size", batch_size, 1)
        self.model, self.tokenizer, self.name = model, tokenizer, name

    @classmethod
    def load(cls, source: str, *, device: str = "auto", batch_size: int = 16) -> PerplexityJudge:
        """Load the judge as `pplm.load_model` does: a hub id, a folder, a .gguf file or the embedded model.

        It is loaded in float32, whatever the format of the steered model, so that a judge's losses are not rounded.

        Raises
        ------
        InputError
            If the model cannot be loaded.

        """
        check_whole("batch_size", batch_size, 1)
        model, tokenizer = load_model(source, device=device, dtype="float32")
        path = local_path(source)
        return cls(model, tokenizer, str(source) if path is None else path.resolve().name, batch_size=batch_size)

    def is_same_model(self, model: Any) -> bool:
        """Return whether `model` has the judge's weights, in whatever number format each was loaded."""
        return model is self.model or same_weights(weight_hashes(self.model), weight_hashes(model))

    def judge(self, texts: Sequence[JudgedText]) -> list[tuple[float, ...]]:
        """Return (nll, tokens) of each text; (0, 0) where there is nothing to judge.

        Raises
        ------
        InputError
            If a text is longer than the model's context, or the model returns something that is not a number.

        """
        rows = self._encode(texts)
        self._check_lengths(texts, rows)
        result: list[tuple[float, ...]] = [(0.0, 0.0)] * len(texts)
        order = sorted((n for n, row in enumerate(rows) if row.counted), key=lambda n: -len(rows[n].ids))
        losses = in_batches(order, self.batch_size, lambda batch: self._losses([rows[n] for n in batch]))
        for number, loss in zip(order, losses, strict=True):
            if not math.isfinite(loss):
                raise InputError(
                    f"{self.name} gives text {number + 1} of {len(texts)} ({shorten(texts[number].text)!r}) a loss "
                    f"that is not finite; load it in float32 (now {str(self.model.dtype).removeprefix('torch.')})"
                )
            result[number] = (loss, float(sum(rows[number].counted)))
        return result

    def _encode(self, texts: Sequence[JudgedText]) -> list[_Row]:
        for number, text in enumerate(texts):
            check_text(f"text {number + 1} of {len(texts)}", text.text, may_be_empty=True)
        rows = []
        for first in range(0, len(texts), _ENCODED):
            some = texts[first : first + _ENCODED]
            found = encode_with_starts(self.model, self.tokenizer, [text.text for text in some])
            for text, item in zip(some, found, strict=True):
                begin = len(text.prompt)
                rows.append(_Row(array("i", item.ids), bytes(start >= begin for start in item.starts[1:])))
        return rows

    def _check_lengths(self, texts: Sequence[JudgedText], rows: Sequence[_Row]) -> None:
        positions = self._positions()
        for number, row in enumerate(rows):
            if positions is not None and len(row.ids) > positions:
                raise InputError(
                    f"text {number + 1} of {len(texts)} ({shorten(texts[number].text)!r}) has {len(row.ids)} tokens, "
                    f"{self.name} has {positions} positions; shorten it, leave it out or take another judge"
                )

    def _positions(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def _width(self, length: int) -> int:
        """Return the length to which a text of `length` tokens is padded when it is read alone."""
        padded = -(-length // _WIDTH) * _WIDTH
        return min(padded, self._positions() or padded)

    def _losses(self, rows: Sequence[_Row]) -> list[float]:
        """Return each text's loss, reading as many at once as `_LOGITS` allows; `rows` come longest first."""
        vocabulary = self.model.config.get_text_config().vocab_size
        parts = in_like_lengths([self._width(len(row.ids)) for row in rows], max(1, _LOGITS // vocabulary))
        return [loss for part in parts for loss in self._read([rows[n] for n in part])]

    @torch.inference_mode()
    def _read(self, rows: Sequence[_Row]) -> list[float]:
        """Return the sum of each text's losses at the tokens that count."""
        width = self._width(max(len(row.ids) for row in rows))
        input_ids, mask = pad_right([row.ids for row in rows], self.model.device, width)
        arguments = {"input_ids": input_ids, "use_cache": False, "return_dict": True, **mask_arguments(mask)}
        with fast_products(self.model):
            logits = self.model(**arguments).logits
        return [_sum_of_losses(logits[n], input_ids[n], row.counted) for n, row in enumerate(rows)]


def _sum_of_losses(logits: Tensor, ids: Tensor, counted: bytes) -> float:
    """Return the summed loss of those tokens after a text's first that count: logits (L, V), ids (L,)."""
    counts = torch.tensor(list(counted), dtype=torch.bool, device=ids.device)
    total = logits.new_zeros((), dtype=torch.float64, device="cpu")
    # Part by part: a second copy of all logits (L, V) would be the largest thing in memory.
    for begin in range(0, len(counted), _POSITIONS):
        end = min(begin + _POSITIONS, len(counted))
        loss = functional.cross_entropy(logits[begin:end].float(), ids[begin + 1 : end + 1], reduction="none")
        total += loss[counts[begin:end]].cpu().double().sum()
    return total.item()
