"""What steering did, token by token: the record that comes back with the text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.text.dial import Fused
from pplm.text.objective import TextObjective


@dataclass(frozen=True, repr=False)
class SteeringTrace:
    """Losses and norms of every new token: before each iteration's update, and after the last one.

    Letters: N new tokens, I iterations, A attribute models, G moved layers, B samples. Losses, `kl` and gradients are
    NaN where a sample was not steered: past `grad_length`, between two turns of `steer_every`, skipped by `skip_below`
    or `skip_weak`, at its target already, without any history yet, after its end, or where no attribute model could
    act. `final_kl` and `gm_scale` are there for every token that is drawn.

    Attributes
    ----------
    names
        Names of the A attribute models.
    attribute_losses
        (N, I + 1, A, B), unweighted.
    attribute_loss
        (N, I + 1, B), their weighted sum.
    kl
        (N, I + 1, B): KL(steered distribution || unsteered one) in nats, before the geometric mean and not scaled by
        `kl_scale`. If nothing needed logits, NaN but for the last reading.
    gradient_norms
        (N, I, G, B): Euclidean norms, as in `Steered.gradient_norms`.
    gradient_cosines
        (N, A, A, B): cosines between the attribute models' gradients at each token's first iteration, below 0 where
        two of them pull against each other; NaN with a single attribute model.
    final_kl
        (N, B): KL(final distribution || unsteered one) in nats, after the geometric mean and before temperature and
        top-k; 0 where nothing is steered.
    gm_scale
        (N, B): the steered distribution's share in the geometric mean, which the dial chooses for each token.
    levels
        (N, A, B): with the dial, the attributes' levels in the text so far (`SteeringConfig.target`); NaN without it.

    """

    names: tuple[str, ...]
    attribute_losses: Tensor
    attribute_loss: Tensor
    kl: Tensor
    gradient_norms: Tensor
    gradient_cosines: Tensor
    final_kl: Tensor
    gm_scale: Tensor
    levels: Tensor

    def __repr__(self) -> str:
        """Name the shape of the record instead of printing all its numbers."""
        tokens, readings, models, batch = self.attribute_losses.shape
        steered = int(self.kl.isfinite().any(1).sum())
        return (
            f"SteeringTrace(names={self.names}, tokens={tokens}, iterations={readings - 1}, attribute_models={models}, "
            f"samples={batch}, steered={steered} of {tokens * batch})"
        )


class TraceRecorder:
    """Collects one entry per new token, for the whole batch.

    Parameters
    ----------
    names
        Names of the attribute models.
    num_iterations, num_layers, batch
        I, G and B of the record.

    """

    def __init__(self, names: tuple[str, ...], num_iterations: int, num_layers: int, batch: int) -> None:
        models = len(names)
        self.names, self._batch = names, batch
        self._shapes = (
            (num_iterations + 1, models),
            (num_iterations + 1,),
            (num_iterations + 1,),
            (num_iterations, num_layers),
            (models, models),
        )
        self._tokens: list[tuple[Tensor, ...]] = []
        self._final: list[tuple[Tensor, ...]] = []

    def record_steered(
        self, objective: TextObjective, gradient_norms: Tensor, has_history: Tensor, index: Tensor
    ) -> None:
        """Record a token at which the samples in `index` were steered, from what the objective kept of it.

        Rows without history (`has_history`, (B,) bool), or on which no attribute model acts, are recorded as NaN;
        `gradient_norms` is (I, G, B).
        """
        took_part = has_history if objective.reached is None else has_history & objective.reached
        totals, divergences = zip(*objective.outcomes, strict=True)
        found = (
            torch.stack(objective.attribute_losses),
            torch.stack(totals),
            torch.stack(divergences),
            gradient_norms,
            objective.gradient_cosines,
        )
        entry = self._blank(divergences[0])
        for values, blank in zip(found, entry, strict=True):
            if values is not None:
                blank[..., index] = values.masked_fill(~took_part, torch.nan).to(blank.dtype)
        self._tokens.append(entry)

    def record_unsteered(self, like: Tensor) -> None:
        """Record a token at which no sample was steered; `like` gives the device."""
        self._tokens.append(self._blank(like))

    def record_final(self, fused: Fused, index: Tensor) -> None:
        """Record the distribution from which the samples in `index` draw; call after one of the other two methods."""
        blank = fused.kl.new_full((self._batch,), torch.nan, dtype=torch.float32)
        levels = blank.repeat(len(self.names), 1)
        if fused.levels is not None:
            levels[:, index] = fused.levels.float()
        row = [blank.index_copy(0, index, own.float()) for own in (fused.kl, fused.gm_scale)]
        self._final.append((*row, levels))

    def trace(self) -> SteeringTrace:
        """Return the record so far."""
        columns = (*zip(*self._tokens, strict=True), *zip(*self._final, strict=True))
        return SteeringTrace(self.names, *(torch.stack(column).cpu() for column in columns))

    def _blank(self, like: Tensor) -> tuple[Tensor, ...]:
        return tuple(like.new_full((*shape, self._batch), torch.nan, dtype=torch.float32) for shape in self._shapes)
