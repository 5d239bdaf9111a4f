"""Mean hidden states of a head's classes, layer by layer: contrastive activation addition adds their differences.

The head itself does not use them. They are computed from some of its texts, in a separate pass, because storing every
layer of every text would fill a disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribute_models.feature_cache import feature_fingerprint, load_cached, store_cached
from attribute_models.features import encode_to_context
from attribute_models.labelled_data import LabelledData
from attribute_models.settings import ClassMeansOptions
from pplm.batching import in_like_lengths
from pplm.models.processes import Processes
from pplm.pooling import PooledHidden, model_body
from pplm.products import fast_products
from pplm.text.encoding import mask_arguments, pad_right


def extract_class_means(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: LabelledData,
    *,
    options: ClassMeansOptions,
    batch_tokens: int = 2048,
    cache_dir: str | Path | None = None,
    processes: Processes | None = None,
) -> Tensor:
    """Return the mean hidden states of C classes after each of L layers: (C, L, D), float32, on the CPU.

    Every text counts once, with the mean over its positions, the beginning-of-text token included. The last layer's
    output is taken after the final normalisation, as transformers reports it.

    Parameters
    ----------
    model, tokenizer
        As `pplm.load_model` returns them.
    data
        Labelled texts. Which of them are read does not depend on the split, so that another training finds them cached.
    options
        How many to read.
    batch_tokens, cache_dir, processes
        As in `extract_features`.

    """
    processes = processes or Processes()
    classes = len(data.labels)
    chosen = np.concatenate(
        [_spread(np.flatnonzero(data.targets == c), options.texts_per_class) for c in range(classes)]
    )
    texts, targets = [data.texts[row] for row in chosen], torch.from_numpy(data.targets[chosen])
    named = [f"{target}\t{text}" for target, text in zip(targets.tolist(), texts, strict=True)]
    key = feature_fingerprint(model, tokenizer, named, options)
    cached = load_cached(cache_dir, key) if cache_dir is not None and processes.main else None
    means = processes.share(None if cached is None else cached[0])
    if means is None:
        ids, _ = encode_to_context(model, tokenizer, texts)
        layers, width = model.config.get_text_config().num_hidden_layers, model.get_input_embeddings().weight.shape[1]
        sums = torch.zeros(classes, layers, width, dtype=torch.float64)
        for number, batch in enumerate(in_like_lengths([len(row) for row in ids], batch_tokens)):
            if number % processes.count == processes.index:
                sums.index_add_(0, targets[batch], _mean_by_layer(model, [ids[i] for i in batch]).double())
        means = (processes.sum(sums) / torch.bincount(targets, minlength=classes)[:, None, None]).float()
        if cache_dir is not None and processes.main:
            store_cached(cache_dir, key, means, 0)
    return means


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of the rows, evenly spread, because a file may be sorted."""
    count = min(most, len(rows))
    return rows[np.arange(count) * len(rows) // count]


@torch.inference_mode()
def _mean_by_layer(model: Any, ids: list[list[int]]) -> Tensor:
    """Return each text's mean hidden state over its positions after each layer: (B, L, D), float32, on the CPU."""
    input_ids, mask = pad_right(ids, model.device)
    arguments = {"use_cache": False, "output_hidden_states": True, "return_dict": True, **mask_arguments(mask)}
    with fast_products(model):
        states = model_body(model)(input_ids=input_ids, **arguments).hidden_states[1:]
    return torch.stack([PooledHidden.of(hidden, mask).mean for hidden in states], dim=1).cpu()
