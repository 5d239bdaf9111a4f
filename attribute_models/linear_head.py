"""Fit a multinomial logistic regression in seconds: full-batch L-BFGS on standardised features.

The published code trained the same head with Adam, passing all texts through the language model ten times. Hidden
states are strongly correlated, which makes plain L-BFGS slow. In the basis of their covariance's eigenvectors, each
scaled by the curvature of the loss along it at the start, it takes a dozen steps. The optimum is the same: a rotation
does not change the penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

_CONSTANT = 1e-5
"""A feature whose standard deviation is at most this times its largest absolute value, or times 1 if that is larger, is
constant up to rounding: its weight is 0."""
_SMALLEST_CURVATURE = 1e-6
"""Keeps the scale finite for directions in which the features do not vary."""
_START_CURVATURE = 0.25
"""Second derivative of the logistic loss where both classes are equally likely."""
_PATIENCE = 2
"""The search ends after this many penalties in a row do worse than the best one."""


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A head and how it was chosen.

    Attributes
    ----------
    weight, bias
        (C, D) and (C,), float32, for features that are not standardised.
    l2
        The penalty with the lowest validation loss.
    validation_losses
        Cross-entropy on the validation split in nats, by penalty, for the penalties that were tried.

    """

    weight: Tensor
    bias: Tensor
    l2: float
    validation_losses: dict[float, float]


def fit_linear_head(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    class_weights: Tensor,
    *,
    l2: Sequence[float],
    max_iterations: int,
) -> LinearFit:
    """Fit a head for each L2 penalty, strongest first, and return the one with the lowest validation loss.

    The search ends early once penalties only get worse (`_PATIENCE`).

    Parameters
    ----------
    train, validation
        Features (N, D) and class numbers (N,).
    class_weights
        (C,): how much a text of each class counts in the loss.
    l2
        Penalties: the loss is the mean cross-entropy plus l2 / 2 times the sum of squared weights of standardised
        features; the bias is free.
    max_iterations
        L-BFGS iterations per penalty.

    """
    features, targets = train
    mean, deviation = features.mean(0), features.std(0, unbiased=False)
    varies = deviation > _CONSTANT * features.abs().amax(0).clamp(min=1)
    per_deviation = torch.where(varies, 1 / deviation, 0)
    features = (features - mean) * per_deviation
    variances, axes = torch.linalg.eigh(features.T @ features / len(features))
    features, held_out = features @ axes, (validation[0] - mean) * per_deviation @ axes
    weight = torch.zeros(len(class_weights), features.shape[1])
    bias = torch.zeros(len(class_weights))
    losses: dict[float, float] = {}
    fits: dict[float, tuple[Tensor, Tensor]] = {}
    for penalty in sorted(l2, reverse=True):  # the strongest first: each is a good start for the next
        scale = (_START_CURVATURE * variances.clamp(min=0) + penalty + _SMALLEST_CURVATURE).rsqrt()
        weight, bias = _minimise(features, targets, class_weights, penalty, scale, (weight, bias), max_iterations)
        fits[penalty] = (weight, bias)
        losses[penalty] = cross_entropy(linear(held_out, weight, bias), validation[1], class_weights).item()
        if len(losses) >= _PATIENCE and min(losses.values()) < min(list(losses.values())[-_PATIENCE:]):
            break  # overfitting only grows as penalties shrink
    best = min(losses, key=lambda penalty: losses[penalty])
    weight, bias = fits[best]
    weight = weight @ axes.T * per_deviation
    return LinearFit(weight, bias - weight @ mean, best, losses)


def _minimise(
    features: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    l2: float,
    scale: Tensor,
    start: tuple[Tensor, Tensor],
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Minimise over weights divided by `scale` (D,), so that every direction is about equally curved."""
    scaled, bias = (start[0] / scale).requires_grad_(), start[1].clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [scaled, bias],
        max_iter=iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,  # about what float32 resolves in a loss near 1: beyond it a line search chases noise
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        weight = scaled * scale
        loss = cross_entropy(linear(features, weight, bias), targets, class_weights) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return (scaled * scale).detach(), bias.detach()
