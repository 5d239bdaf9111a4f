"""GPT-2 with random weights: speed does not depend on the values, so it can be measured without a download."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from pplm.checks import check_whole
from pplm.errors import InputError
from pplm.models.loading import find_device, freeze, fuse_gelu
from pplm.seeds import torch_seed

RANDOM_MODELS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "random:gpt2": MappingProxyType({"n_layer": 12, "n_embd": 768, "n_head": 12}),
        "random:gpt2-medium": MappingProxyType({"n_layer": 24, "n_embd": 1024, "n_head": 16}),
    }
)
"""The published sizes (124 and 355 million parameters); vocabulary 50257, 1024 positions."""


def random_model(name: str, *, device: str = "auto", seed: int = 0) -> Any:
    """Return a frozen GPT-2 of a published size with random weights, in float32.

    Parameters
    ----------
    name
        "random:gpt2" or "random:gpt2-medium".
    device
        As in `load_model`.
    seed
        Same seed, same weights.

    Raises
    ------
    InputError
        If there is no such size or device.

    """
    if name not in RANDOM_MODELS:
        raise InputError(f"model {name!r} must be one of {', '.join(RANDOM_MODELS)}")
    place = find_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(check_whole("seed", seed)))  # restored afterwards
        model = GPT2LMHeadModel(GPT2Config(vocab_size=50257, n_positions=1024, **RANDOM_MODELS[name]))
    return freeze(fuse_gelu(model.to(place)))
