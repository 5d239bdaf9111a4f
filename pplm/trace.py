"""What steering did, token by token: the record that comes back with the text."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pplm.objective import TextObjective
from pplm.steering import Steered


@dataclass(frozen=True)
class SteeringTrace:
    """Losses and norms of every new token, before each iteration's update.

    N new tokens, I iterations, A attribute models, G layers, B samples. Entries are NaN where a sample was not
    steered: past `grad_length`, before it had any history, or where no attribute model could act.

    Attributes
    ----------
    names
        The A attribute models.
    attribute_losses
        (N, I, A, B), unweighted.
    attribute_loss
        (N, I, B), their weighted sum.
    kl
        (N, I, B), not scaled by `kl_scale`.
    gradient_norms
        (N, I, G, B).
    gradient_cosines
        (N, A, A, B): cosines between the attribute models' gradients at each token's first iteration, below 0 where
        two of them pull against each other; NaN with a single attribute model.

    """

    names: tuple[str, ...]
    attribute_losses: Tensor
    attribute_loss: Tensor
    kl: Tensor
    gradient_norms: Tensor
    gradient_cosines: Tensor


@dataclass
class TraceRecorder:
    """Collects one entry a new token."""

    names: tuple[str, ...]
    num_iterations: int
    num_layers: int
    batch: int
    _tokens: list[tuple[Tensor, ...]] = field(default_factory=list)

    def steered(self, result: Steered, objective: TextObjective, has_history: Tensor) -> None:
        """Record a steered token; rows without history (B,), or that no attribute model acts on, took no part."""
        took_part = has_history if objective.steered is None else has_history & objective.steered
        losses, cosines = objective.attribute_losses, objective.gradient_cosines
        like = result.divergence
        entry = (
            torch.stack(losses) if losses else self._missing(like, 0, len(self.names)),
            result.attribute_loss,
            result.divergence,
            result.gradient_norms,
            self._missing(like, len(self.names), len(self.names)) if cosines is None else cosines,
        )
        self._tokens.append(tuple(t.masked_fill(~took_part, torch.nan) for t in entry))

    def unsteered(self, like: Tensor) -> None:
        """Record a token that was not steered, on the device of `like`."""
        iterations, models = self.num_iterations, len(self.names)
        shapes = ((iterations, models), (iterations,), (iterations,), (iterations, self.num_layers), (models, models))
        self._tokens.append(tuple(self._missing(like, *shape) for shape in shapes))

    def trace(self) -> SteeringTrace:
        """Return the record so far."""
        columns = zip(*self._tokens, strict=True)
        return SteeringTrace(self.names, *(torch.stack(column).cpu() for column in columns))

    def _missing(self, like: Tensor, *shape: int) -> Tensor:
        return like.new_full((*shape, self.batch), torch.nan, dtype=torch.float32)
