"""Between the `Cache` of transformers and the lists of tensors that the core steers.

A history is a list of layers, each `[keys, values]` of shape (B, H, L, D): L positions, D the head's width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from pplm.errors import InputError

History = list[list[Tensor]]


def check_steerable(cache: object) -> None:
    """Refuse a cache whose layers are not plain growing keys and values.

    Sliding-window, quantised, static and recurrent layers subclass or replace `DynamicLayer` and hold something
    else than the whole history, so the exact type counts.

    Raises
    ------
    InputError
        With the name of what was found.

    """
    if not isinstance(cache, Cache):
        raise InputError(f"past_key_values is {type(cache).__name__}; steering needs a transformers DynamicCache")
    if getattr(cache, "offloading", False):
        raise InputError("past_key_values is offloaded; steering needs a plain DynamicCache (no cache_implementation)")
    for layer in cache.layers:
        if type(layer) is not DynamicLayer:
            raise InputError(
                f"this model's cache has a layer of type {type(layer).__name__}; steering needs the whole history of "
                "keys and values in every layer (DynamicLayer)"
            )
    if not cache.layers and not isinstance(cache, DynamicCache):
        raise InputError(f"past_key_values is {type(cache).__name__}; steering needs a DynamicCache")


def history_of(cache: Cache) -> History:
    """Return the cache's tensors, not copied; later updates of the cache replace its tensors, not these."""
    return [[layer.keys, layer.values] for layer in cache.layers]


def cache_of(history: History) -> DynamicCache:
    """Return a cache that starts from these tensors, keeping their autograd graph and copying nothing."""
    cache = DynamicCache()
    for keys, values in history:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def history_length(history: History) -> int:
    """Return the number of positions L."""
    return history[0][0].shape[-2]


def drop_last(history: History) -> History:
    """Return the history without its most recent position."""
    return [[t[..., :-1, :] for t in layer] for layer in history]


def split_window(history: History, window_length: int) -> tuple[History, History]:
    """Split into (older, window): the window holds the `window_length` most recent positions, 0 meaning all."""
    length = history_length(history)
    start = max(0, length - window_length) if window_length else 0
    older = [[t[..., :start, :] for t in layer] for layer in history]
    window = [[t[..., start:, :] for t in layer] for layer in history]
    return older, window


def join_window(older: History, window: History) -> History:
    """Undo `split_window`."""
    if history_length(older) == 0:
        return window
    return [
        [torch.cat(pair, dim=-2) for pair in zip(old, new, strict=True)] for old, new in zip(older, window, strict=True)
    ]


def window_weights(lengths: Tensor, window_length: int, decay: bool) -> Tensor | None:
    """Gradient weights of the window's positions, the most recent weighing 1.

    Parameters
    ----------
    lengths
        (B,): how many real (not padding) positions each sample's history has.
    window_length
        The configured length; 0 means all of the history.
    decay
        Whether older positions weigh less: 1/w, 2/w, ... 1 across a window of w positions.

    Returns
    -------
    Tensor or None
        (B, 1, W, 1), W being the length of the window in this batch; None where all weights are 1. A sample
        whose history is not longer than the window weighs all positions alike.

    """
    if not decay or window_length == 0 or bool((lengths <= window_length).all()):
        return None
    ramp = torch.arange(1, window_length + 1, device=lengths.device) / window_length
    weights = torch.where((lengths > window_length)[:, None], ramp, 1.0)
    return weights[:, None, :, None]
