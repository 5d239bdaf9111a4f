"""How good a classifier is: accuracy, macro-F1, confusion matrix, expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017)."""


@dataclass(frozen=True)
class Grades:
    """How well a head does on a split.

    Attributes
    ----------
    accuracy
        Share of texts whose most probable class is the right one, 0 to 1.
    macro_f1
        Mean over classes of the harmonic mean of precision and recall, 0 to 1; a class never predicted rightly gives 0.
    calibration_error
        Expected calibration error, 0 to 1: the mean distance of confidence from accuracy, over 15 bins of confidence.
    confusion
        (C, C) numbers of texts; rows are the true classes, columns the predicted ones.

    """

    accuracy: float
    macro_f1: float
    calibration_error: float
    confusion: tuple[tuple[int, ...], ...]


def grade(probabilities: Tensor, targets: Tensor) -> Grades:
    """Compare class probabilities (N, C) with class numbers (N,)."""
    classes = probabilities.shape[1]
    confidence, predicted = probabilities.max(-1)
    right = predicted == targets
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    confusion.index_put_((targets, predicted), torch.ones_like(targets), accumulate=True)
    return Grades(
        accuracy=right.double().mean().item(),
        macro_f1=_f1(confusion).mean().item(),
        calibration_error=_calibration_error(confidence, right),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _f1(confusion: Tensor) -> Tensor:
    """(C,): 2 TP / (2 TP + FP + FN), and 0 for a class that neither occurs nor is predicted."""
    true_positives = confusion.diag().double()
    return 2 * true_positives / (confusion.sum(0) + confusion.sum(1)).double().clamp(min=1)


def _calibration_error(confidence: Tensor, right: Tensor) -> float:
    bins = (confidence.double() * _BINS).long().clamp(max=_BINS - 1)
    gap = torch.zeros(_BINS, dtype=torch.double).index_add_(0, bins, confidence.double() - right.double())
    return (gap.abs().sum() / len(right)).item()
