"""A language model as judge of fluency: how likely it finds what another model wrote.

The paper used GPT (Radford et al. 2018). Low is not good by itself: text that repeats itself is very likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pplm.batching import in_batches
from pplm.errors import InputError
from pplm.evaluation.judges import JudgedText, shorten
from pplm.models.fingerprint import same_weights, weight_hashes
from pplm.models.loading import load_model
from pplm.models.resources import local_path
from pplm.products import fast_products
from pplm.text.encoding import TextTokens, encode_with_starts, mask_arguments, pad_right


class PerplexityJudge:
    """Negative log-likelihood of the completion given the prompt, in nats, and its number of tokens.

    The whole text is split into tokens, and those that begin at or after the prompt's end count; without a prompt all
    do. The model's beginning-of-text token stands in front; a model that has none cannot judge a text's first token,
    which then does not count. `pplm.evaluation.perplexity` makes a perplexity of the two numbers.
    """

    columns: tuple[str, ...] = ("nll", "tokens")

    def __init__(self, model: Any, tokenizer: Any, name: str, *, batch_size: int = 16) -> None:
        """Take a causal language model that is on its device, its tokenizer, and a name for reports.

        `batch_size` texts are read at once (>= 1), and fewer where memory runs out; the numbers do not depend on it.
        """
        _check_batch_size(batch_size)
        self.model, self.tokenizer, self.name, self.batch_size = model, tokenizer, name, batch_size

    @classmethod
    def load(cls, source: str, *, device: str = "auto", batch_size: int = 16) -> PerplexityJudge:
        """Load the judge as `pplm.load_model` does: a hub id, a folder, a .gguf file or the embedded model.

        It is loaded in float32, whatever the format of the steered model: a judge's losses are not to be rounded.

        Raises
        ------
        InputError
            If the model cannot be loaded.

        """
        _check_batch_size(batch_size)
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
        encoded = encode_with_starts(self.model, self.tokenizer, [text.text for text in texts])
        self._check_lengths(texts, encoded)
        result: list[tuple[float, ...]] = [(0.0, 0.0)] * len(texts)
        rows = sorted((i for i, item in enumerate(encoded) if len(item.ids) > 1), key=lambda i: -len(encoded[i].ids))
        losses = in_batches(rows, self.batch_size, lambda batch: self._losses([encoded[i].ids for i in batch]))
        for row, own in zip(rows, losses, strict=True):
            begin = len(texts[row].prompt)
            counted = own[torch.tensor([start >= begin for start in encoded[row].starts[1:]])]
            if not torch.isfinite(counted).all():
                raise InputError(
                    f"{self.name} gives text {row + 1} of {len(texts)} ({shorten(texts[row].text)!r}) a loss that "
                    f"is not finite; load it in float32 (now {str(self.model.dtype).removeprefix('torch.')})"
                )
            result[row] = (counted.sum().item(), float(len(counted)))
        return result

    def _check_lengths(self, texts: Sequence[JudgedText], encoded: Sequence[TextTokens]) -> None:
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for number, item in enumerate(encoded):
            if positions is not None and len(item.ids) > positions:
                raise InputError(
                    f"text {number + 1} of {len(texts)} ({shorten(texts[number].text)!r}) has {len(item.ids)} tokens, "
                    f"{self.name} has {positions} positions; shorten it, leave it out or take another judge"
                )

    @torch.inference_mode()
    def _losses(self, ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return for each of B texts the losses (T - 1,) of its tokens after the first, float64, on the CPU."""
        input_ids, mask = pad_right(ids, self.model.device)
        arguments = {"input_ids": input_ids, "use_cache": False, "return_dict": True, **mask_arguments(mask)}
        with fast_products(self.model):
            logits = self.model(**arguments).logits
        # Row by row: a second copy of all logits (B, T, V) would be the largest thing in memory.
        return [
            functional.cross_entropy(
                logits[row, : len(text) - 1].float(), input_ids[row, 1 : len(text)], reduction="none"
            )
            .cpu()
            .double()
            for row, text in enumerate(ids)
        ]


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1; got {batch_size}")
