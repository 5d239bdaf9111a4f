"""All private names of transformers and torch that pplm uses, and why no public one would do.

A private name may change in any version. `tests/test_private_names.py` calls each function here, names what broke and
who uses it, and checks that no other module uses a private name that is not its own.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

__all__ = [
    "has_linear_pointwise",
    "is_stateful",
    "layer_type",
    "linear_pointwise",
    "mask_length",
    "pad_token",
    "position_ids",
    "prefill",
    "shallow_copy",
    "tree_map",
    "version_of",
    "with_next_token",
    "wrapper_of",
]

# --- transformers ----------------------------------------------------------------------------------------------


def prefill(model: Any, input_ids: Tensor, generation_config: Any, arguments: dict[str, Any]) -> Any:
    """Read a prompt (B, T) as `generate` does: the only way that works with any cache of the caller's own."""
    return model._prefill(input_ids, generation_config, arguments)


def with_next_token(model: Any, outputs: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the model's arguments for a text that is one token longer; they differ between families."""
    return model._update_model_kwargs_for_generation(outputs, arguments)


def position_ids(model: Any, input_ids: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Return the positions (B, T) that `generate` gives a model: families count padding differently."""
    return model._prepare_position_ids_for_generation(input_ids, arguments)


def pad_token(generation_config: Any) -> Tensor:
    """Return the id that fills up a finished text; `generate` stores it here before it calls a decoding loop."""
    return generation_config._pad_token_tensor


def mask_length(generation_config: Any) -> int | None:
    """Return the length of a mask that `generate` was given and dropped because it masks nothing; else None."""
    return getattr(generation_config, "_mask_length", None)


def layer_type(layer: Any) -> str | None:
    """Return what a layer of a cache calls itself, to name it in an error; None where it has no name."""
    return getattr(layer, "_layer_type", None)


def is_stateful(model: Any) -> bool:
    """Return whether a model declares that it keeps a running state, for which there is no public name."""
    return bool(getattr(model, "_is_stateful", False))


# --- torch -----------------------------------------------------------------------------------------------------


def shallow_copy(module: Any) -> Any:
    """Return a copy of a module with its own list of submodules and all else shared; torch only copies deeply."""
    own = copy.copy(module)
    own.__dict__["_modules"] = dict(module._modules)
    return own


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, which has no public counter."""
    return tensor._version


def wrapper_of(kind: type, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a tensor of a subclass without storage of its own, as torch's own quantised tensors are made."""
    return torch.Tensor._make_wrapper_subclass(kind, shape, dtype=dtype, device=device, requires_grad=False)


def has_linear_pointwise() -> bool:
    """Return whether this version of torch has `linear_pointwise`; without it, products are equal but slower."""
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear_pointwise(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return rows (..., K) @ weight (N, K).T by oneDNN: the only way that neither copies nor reorders the weights."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
