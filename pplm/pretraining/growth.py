"""Deepen a GPT-2 without changing what it says, so that a finished model can go on with more weights."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch


def deepened(model: Any, extra_layers: int) -> Any:
    """Return a GPT-2 with `extra_layers` more blocks that computes the same logits.

    The new blocks are spread over the depth. Each is a copy of the block below it whose two output projections are
    zero: it adds nothing to the residual stream, and these projections have gradients from the first step.
    """
    depth = len(model.transformer.h)
    copies = Counter((2 * index + 1) * depth // (2 * extra_layers) for index in range(extra_layers))
    grown = []
    for index, block in enumerate(model.transformer.h):
        grown += [block, *(_silent(copy.deepcopy(block)) for _ in range(copies[index]))]
    config = copy.deepcopy(model.config)
    config.n_layer = len(grown)
    deeper = type(model)(config).to(dtype=model.dtype)
    deeper.load_state_dict(_state(model, grown))
    deeper.generation_config = model.generation_config
    return deeper.train(model.training)


def _silent(block: Any) -> Any:
    with torch.no_grad():
        for projection in (block.attn.c_proj, block.mlp.c_proj):
            projection.weight.zero_()
            projection.bias.zero_()
    return block


def _state(model: Any, blocks: list[Any]) -> dict[str, Any]:
    outside = {name: value for name, value in model.state_dict().items() if not name.startswith("transformer.h.")}
    inside = {
        f"transformer.h.{index}.{name}": value
        for index, block in enumerate(blocks)
        for name, value in block.state_dict().items()
    }
    return outside | inside
