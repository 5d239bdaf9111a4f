"""Which model and which tokenizer is this? Cheap identities for heads, features and bags that fit only one of them.

Hashing gigabytes takes longer than training a head, so only up to 64 evenly spread values of each tensor of the
model's body (all but the language-model head) are hashed, with the tensors' names and shapes. Fine-tuning changes
them; two models that agree in every sampled value and differ elsewhere are taken for the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch

from pplm.pooling import model_body

_SAMPLE = 64
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENIZERS: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Fingerprints of the tokenizers in use, kept because a large vocabulary takes a moment to hash."""


def weight_hashes(model: Any, *, vectors: bool = False) -> dict[str, str]:
    """Return hashes of the weights rounded to float32, bfloat16 and float16, by the name of the format.

    A model loaded in bfloat16 has other values than the same model in float32, but both agree once they are rounded
    to bfloat16.

    Parameters
    ----------
    vectors
        Hash only the vectors (norms and biases). Quantising a model leaves them unchanged, but so does merging an
        adapter into its matrices. The result is empty for a model without vectors.

    """
    hashes = {name: hashlib.sha256() for name in _DTYPES}
    parameters = sorted(model_body(model).named_parameters())
    chosen = [(name, tensor) for name, tensor in parameters if tensor.dim() == 1 or not vectors]
    for name, tensor in chosen:
        flat = _numbers(tensor.detach()).flatten()
        sample = flat[:: max(1, -(-flat.numel() // _SAMPLE))].cpu()
        for kind, dtype in _DTYPES.items():
            hashes[kind].update(f"{name}{tuple(tensor.shape)}".encode())
            hashes[kind].update(sample.to(dtype).float().numpy().tobytes())
    return {kind: value.hexdigest()[:16] for kind, value in hashes.items()} if chosen else {}


def _numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return a quantised weight dequantised, any other as it is."""
    own = type(tensor).dequantize is not torch.Tensor.dequantize
    return tensor.dequantize() if own else tensor


def same_weights(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether two results of `weight_hashes` are of one model, whatever number format each was loaded in."""
    return any(one[kind] == other.get(kind) for kind in one)


def identity(model: Any) -> dict[str, Any]:
    """Return what identifies a model in files: its public name and the hashes of its weights and of its vectors."""
    return {"name": public_name(model), "weights": weight_hashes(model), "vectors": weight_hashes(model, vectors=True)}


def relation(made_on: Mapping[str, Any], model: Any) -> Literal["same", "relative"] | None:
    """Return "same" if something was made on this model (by its `identity`), "relative" if on a relative, else None.

    A relative has the same vectors; nothing else is compared. It may be the same model before or after quantisation,
    but also one of which only the matrices were fine-tuned, such as by a merged adapter (`relative_note`).
    """
    if same_weights(made_on["weights"], weight_hashes(model)):
        return "same"
    vectors = weight_hashes(model, vectors=True)
    return "relative" if same_weights(made_on.get("vectors") or {}, vectors) else None


def relative_note(made_on: str, model: Any) -> str:
    """Return the words for a note that something made on one model is used for its relative."""
    return (
        f"made on {made_on}, used for {public_name(model)}, which has the same norms and biases but other matrices, "
        "quantised or fine-tuned ones"
    )


def content_hash(attribute: Any) -> str:
    """Return a hash of what an attribute model steers by: its words or weights, or those of the attribute it avoids."""
    found = hashlib.sha256()
    while attribute is not None:
        for name in ("entries", "weight", "bias", "labels"):
            value = getattr(attribute, name, None)
            numbers = value.detach().float().cpu().numpy().tobytes() if isinstance(value, torch.Tensor) else None
            found.update(numbers if numbers is not None else repr(value).encode("utf-8", "backslashreplace"))
        attribute = getattr(attribute, "attribute", None)
    return found.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a hash of what the ids of a tokenizer's own vocabulary stand for.

    Added tokens (special or not), padding and chat template are left out: what was made with a tokenizer still fits
    it after tokens were added.
    """
    if tokenizer not in _TOKENIZERS:
        vocabulary = sorted((number, token) for token, number in tokenizer.get_vocab().items())
        own = repr([item for item in vocabulary if item[0] < tokenizer.vocab_size])
        _TOKENIZERS[tokenizer] = hashlib.sha256(own.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    return _TOKENIZERS[tokenizer]


def public_name(model: Any) -> str:
    """Return a model's hub id, or only the last part of its folder: cards must not name places on somebody's disk."""
    name = str(model.config.name_or_path or type(model).__name__)
    path = Path(name).expanduser()
    return path.resolve().name if path.is_absolute() or path.is_dir() else name
