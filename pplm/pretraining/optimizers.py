"""Muon for the body's matrices, AdamW for everything else, behind one handle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pplm.pretraining.settings import TrainingSettings


class Optimizers:
    """Both optimizers of a GPT-2, stepped together and saved as one flat table of tensors.

    Muon takes only matrices, and suits those that map hidden states to hidden states: the ones inside the transformer
    blocks. Embeddings (untied output embeddings too), norms and biases go to AdamW.
    """

    def __init__(self, model: nn.Module, settings: TrainingSettings) -> None:
        matrices: list[nn.Parameter] = []
        embeddings: list[nn.Parameter] = []
        vectors: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                vectors.append(parameter)
            else:
                (matrices if name.startswith("transformer.h.") else embeddings).append(parameter)
        muon = torch.optim.Muon(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay)
        adamw = torch.optim.AdamW(
            [{"params": embeddings, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.adamw_lr,
            betas=(0.9, 0.95),
        )
        self._members: dict[str, tuple[Any, float]] = {
            "muon": (muon, settings.muon_lr),
            "adamw": (adamw, settings.adamw_lr),
        }

    def step(self, lr_share: float) -> None:
        """Update the weights, at this share of the peak learning rates, and clear the gradients."""
        for optimizer, peak in self._members.values():
            for group in optimizer.param_groups:
                group["lr"] = peak * lr_share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizers' state, by name."""
        return {name: value for name, value in self._walk() if isinstance(value, Tensor)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        for member, (optimizer, _) in self._members.items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                owner, index, key = name.split(".", 2)
                if owner == member:
                    state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def _walk(self) -> Iterator[tuple[str, Any]]:
        for member, (optimizer, _) in self._members.items():
            for index, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    yield f"{member}.{index}.{key}", value
