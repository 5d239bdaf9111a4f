"""One file with the state of a run after a step: weights, optimizers and position. Written completely or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.pretraining.optimizers import Optimizers


@dataclass(frozen=True)
class Position:
    """How far a run has come: optimizer steps, tokens and spans read, seconds of training; and its number format."""

    step: int = 0
    tokens: int = 0
    spans: int = 0
    seconds: float = 0.0
    precision: str = ""


def save_checkpoint(path: Path, model: nn.Module, optimizers: Optimizers, position: Position) -> None:
    """Write the file completely or not at all: a killed run keeps its previous checkpoint.

    Raises
    ------
    InputError
        If it cannot be written, such as on a full disk.

    """
    tensors = {f"model.{name}": value for name, value in _weights(model).items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizers.tensors().items()}
    try:
        with atomic_file(path) as new:
            save_file(
                {name: value.detach().contiguous() for name, value in tensors.items()},
                new,
                metadata={"position": json.dumps(asdict(position))},
            )
    except (OSError, SafetensorError) as error:
        raise InputError(f"checkpoint {path} cannot be written: {error}; make room and pass --resume") from error


def load_checkpoint(path: Path, model: nn.Module, optimizers: Optimizers) -> Position:
    """Restore weights and optimizers on the model's device, and return the position.

    Raises
    ------
    InputError
        If the file cannot be read or belongs to another model.

    """
    try:
        with safe_open(path, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        with torch.no_grad():
            for name, parameter in _weights(model).items():
                parameter.copy_(weights[name])
        memory = {name.removeprefix("optimizer."): t for name, t in tensors.items() if name.startswith("optimizer.")}
        optimizers.load(memory)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"checkpoint {path} cannot be resumed: {error}; remove it to start anew") from error
    return position


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters())  # tied embeddings appear once
