"""Contrastive activation addition: a fixed vector is added to the hidden states of one layer.

Rimsky et al. (2024, "Steering Llama 2 via contrastive activation addition"). The vector is the difference between the
mean hidden states of two classes of texts, here those that a head was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pplm.comparison.rivals.rival import Request, Rival
from pplm.errors import InputError
from pplm.interface import AttributeModel
from pplm.text.split import decoder_layers


@dataclass(frozen=True, eq=False)
class ActivationAddition(Rival):
    """Move one layer's output at every position that predicts a new token.

    h'_l(t) = h_l(t) + strength * v_l,    v_l = mean of h_l over texts of the wanted class - mean over the other classes

    l is the middle layer, which the paper finds best. t runs from the prompt's last position on, as in the published
    code; so the layers above cache moved keys and values for these positions.

    Attributes
    ----------
    strength
        Factor on the vector (>= 0; 0 adds nothing).
    layer
        l, counted from 0.
    vector
        (D,) float32, strength included.

    """

    title = "contrastive activation addition, a vector added to the middle layer's hidden states"
    needs = "a head, whose folder holds the mean hidden states of its classes"
    default_strength = 4.0

    strength: float
    layer: int
    vector: Tensor

    @staticmethod
    def fits(model: AttributeModel) -> bool:
        """Return whether an attribute model is a head, from which vectors can be asked."""
        return callable(getattr(model, "steering_vectors", None))

    @classmethod
    def of(cls, request: Request) -> ActivationAddition:
        """Return the method for the weighted sum of some heads' vectors."""
        layers = len(decoder_layers(request.model)[1])
        layer = layers // 2
        total = torch.zeros(())
        for head in request.attributes:
            vectors = head.model.steering_vectors()  # type: ignore[attr-defined]
            if len(vectors) != layers:
                raise InputError(
                    f"{head.name} has vectors for {len(vectors)} layers, the model has {layers}; train the head again"
                )
            total = total + head.weight * vectors[layer].float().cpu()
        return cls(request.strength, layer, request.strength * total)

    @property
    def record(self) -> dict[str, Any]:
        """The strength, the layer, and a hash of the vector."""
        digest = hashlib.sha256(self.vector.numpy().tobytes()).hexdigest()[:16]
        return {"strength": self.strength, "layer": self.layer, "vector": digest}

    @contextmanager
    def decoding(self, model: Any) -> Iterator[dict[str, Any]]:
        """Add the vector to the last position of every pass."""

        def add(module: Any, inputs: Any, output: Any) -> Any:  # noqa: ARG001 - a forward hook of torch
            hidden = output if isinstance(output, Tensor) else output[0]
            moved = hidden.clone()
            moved[:, -1] += self.vector.to(device=hidden.device, dtype=hidden.dtype)
            return moved if isinstance(output, Tensor) else (moved, *output[1:])

        handle = decoder_layers(model)[1][self.layer].register_forward_hook(add)
        try:
            yield {}
        finally:
            handle.remove()
