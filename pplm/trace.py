"""What steering did, token by token: the record that comes back with the text."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pplm.steering import Steered


@dataclass(frozen=True)
class SteeringTrace:
    """Losses and norms of every new token, before each iteration's update.

    N new tokens, I iterations, A attribute models, G layers, B samples. Entries are NaN where a sample was not
    steered: past `grad_length`, or before it had any history.

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

    """

    names: tuple[str, ...]
    attribute_losses: Tensor
    attribute_loss: Tensor
    kl: Tensor
    gradient_norms: Tensor


@dataclass
class TraceRecorder:
    """Collects one entry a new token."""

    names: tuple[str, ...]
    num_iterations: int
    num_layers: int
    batch: int
    _tokens: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)

    def steered(self, result: Steered, attribute_losses: list[Tensor], has_history: Tensor) -> None:
        """Record a steered token; rows without history (B,) did not take part."""
        losses = torch.stack(attribute_losses)
        entry = (losses, result.attribute_loss, result.divergence, result.gradient_norms)
        a, b, c, d = (t.masked_fill(~has_history, torch.nan) for t in entry)
        self._tokens.append((a, b, c, d))

    def unsteered(self, like: Tensor) -> None:
        """Record a token that was not steered, on the device of `like`."""
        iterations, batch = self.num_iterations, self.batch

        def missing(*shape: int) -> Tensor:
            return like.new_full(shape, torch.nan, dtype=torch.float32)

        self._tokens.append(
            (
                missing(iterations, len(self.names), batch),
                missing(iterations, batch),
                missing(iterations, batch),
                missing(iterations, self.num_layers, batch),
            )
        )

    def trace(self) -> SteeringTrace:
        """Return the record so far."""
        columns = zip(*self._tokens, strict=True)
        return SteeringTrace(self.names, *(torch.stack(column).cpu() for column in columns))
