"""Mean hidden states of texts and of their beginnings: what a head is trained on.

They are computed exactly as during steering: the same beginning-of-text token (`pplm.text.encoding`), the same last
layer, the same mean (`pplm.pooling`). The published code pooled differently in training and in steering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribute_models.feature_cache import feature_fingerprint, load_cached, store_cached
from attribute_models.settings import FeatureOptions
from pplm.batching import in_like_lengths
from pplm.errors import InputError
from pplm.files.progress import OnProgress
from pplm.models.processes import Processes
from pplm.pooling import PooledHidden, model_body
from pplm.products import fast_products
from pplm.short_repr import ShortRepr
from pplm.text.encoding import bos_token_id, encode_texts, mask_arguments, pad_right

_SHORTEST_PREFIX = 2
"""In tokens: at the first step of steering a head sees a prompt of at least a word or two."""


@dataclass(frozen=True, eq=False, repr=False)
class Features(ShortRepr):
    """Mean hidden states of N texts, float32, on the CPU.

    Attributes
    ----------
    pooled
        (N, P, D): the whole text, then its `prefix_lengths`, then its random beginnings.
    options
        The options they were made with.
    truncated
        Number of texts longer than the model's context, of which only the beginning was read.
    from_cache
        Whether they came from the cache on disk.

    """

    pooled: Tensor
    options: FeatureOptions
    truncated: int
    from_cache: bool = False

    @property
    def whole(self) -> Tensor:
        """Features of the whole texts, (N, D)."""
        return self.pooled[:, 0]

    def prefix(self, length: int) -> Tensor:
        """Return the (N, D) features of the texts' first `length` tokens, one of `options.prefix_lengths`."""
        return self.pooled[:, 1 + self.options.prefix_lengths.index(length)]

    @property
    def random(self) -> Tensor:
        """Features of the R random beginnings of each text, (N, R, D)."""
        return self.pooled[:, 1 + len(self.options.prefix_lengths) :]


def extract_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    options: FeatureOptions | None = None,
    batch_tokens: int = 2048,
    cache_dir: str | Path | None = None,
    on_progress: OnProgress | None = None,
    processes: Processes | None = None,
) -> Features:
    """Pass every text through the model once, and pool it and its beginnings.

    Each of several processes reads its share of the texts, and all of them return all features.

    Parameters
    ----------
    model, tokenizer
        As `pplm.load_model` returns them.
    texts
        N texts, none of them empty.
    options
        None takes the defaults.
    batch_tokens
        Positions per batch, padding included (>= 1); lower it when memory runs out. It changes only the speed.
    cache_dir
        Folder to take the features from if they are there, and else to store them in; None does neither.
    on_progress
        Called with (texts read, all texts) after every batch.
    processes
        Processes that share the texts; None is one process.

    Raises
    ------
    InputError
        If `batch_tokens` is below 1, a text is empty, or the model returns NaN or infinity.

    """
    options = options or FeatureOptions()
    if batch_tokens < 1:
        raise InputError(f"batch_tokens must be at least 1; got {batch_tokens}")
    processes = processes or Processes()
    key = feature_fingerprint(model, tokenizer, texts, options) if cache_dir is not None else ""
    cached = load_cached(cache_dir, key) if cache_dir is not None and processes.main else None
    if processes.share(cached is not None):
        pooled, truncated = processes.share(cached)
        return Features(pooled, options, truncated, from_cache=True)
    ids, truncated = encode_to_context(model, tokenizer, texts)
    ends = _view_ends(ids, options, bos_token_id(model, tokenizer))
    pooled = _read(model, ids, ends, batch_tokens, processes, on_progress)
    unusable = int((~pooled.isfinite().all(-1)).any(-1).sum())
    if unusable:
        raise InputError(
            f"the hidden states of {unusable} of {len(texts)} texts are not finite; load the model in float32 "
            f"(now {str(model.dtype).removeprefix('torch.')}) or check its weights"
        )
    if cache_dir is not None and processes.main:
        store_cached(cache_dir, key, pooled, truncated)
    return Features(pooled, options, truncated)


def encode_to_context(model: Any, tokenizer: Any, texts: Sequence[str]) -> tuple[list[list[int]], int]:
    """Return each text's token ids, cut off at the model's context, and the number of texts that were longer."""
    ids = encode_texts(model, tokenizer, texts)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is None:
        return ids, 0
    return [row[:context] for row in ids], sum(len(row) > context for row in ids)


def _view_ends(ids: Sequence[Sequence[int]], options: FeatureOptions, bos_id: int | None) -> Tensor:
    """Return the length of each pooled piece in positions, the beginning-of-text token included: (N, P)."""
    total = np.array([len(row) for row in ids])
    first = np.array([row[0] == bos_id for row in ids], dtype=int) if bos_id is not None else np.zeros_like(total)
    fixed = [np.minimum(total, first + length) for length in options.prefix_lengths]
    drawn = np.random.default_rng(options.prefix_seed).random((options.random_prefixes, len(ids)))
    shortest = np.minimum(total, first + _SHORTEST_PREFIX)
    random = [shortest + np.floor(share * (total - shortest + 1)).astype(int) for share in drawn]
    return torch.from_numpy(np.stack([total, *fixed, *random], axis=1))


def _read(
    model: Any,
    ids: Sequence[Sequence[int]],
    ends: Tensor,
    batch_tokens: int,
    processes: Processes,
    on_progress: OnProgress | None,
) -> Tensor:
    """Return the pooled pieces (N, P, D) in the order of the texts, whatever the batches and processes."""
    width = model.get_input_embeddings().weight.shape[1]
    pooled = torch.zeros(*ends.shape, width)
    done = 0
    for number, rows in enumerate(in_like_lengths([len(row) for row in ids], batch_tokens)):
        done += len(rows)
        if number % processes.count != processes.index:
            continue
        pooled[rows] = pool_batch(model, [ids[i] for i in rows], ends[rows])
        if on_progress is not None:
            on_progress(done, len(ids))
    return processes.sum(pooled)


@torch.inference_mode()
def pool_batch(model: PreTrainedModel, ids: Sequence[Sequence[int]], ends: Tensor) -> Tensor:
    """Return the means over the first `ends` (B, P) positions of B texts: (B, P, D), float32, on the CPU."""
    input_ids, mask = pad_right(ids, model.device)
    arguments = {"use_cache": False, "return_dict": True, **mask_arguments(mask)}
    with fast_products(model):
        hidden = model_body(model)(input_ids=input_ids, **arguments).last_hidden_state
    pieces = []
    for end in ends.to(model.device).unbind(1):
        longest = int(end.max())
        inside = torch.arange(longest, device=model.device) < end[:, None]
        pieces.append(PooledHidden.of(hidden[:, :longest], inside & mask[:, :longest]).mean)
    return torch.stack(pieces, dim=1).cpu()
