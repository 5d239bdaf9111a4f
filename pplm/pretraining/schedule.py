"""How the learning rate, the batch size and the block length change over a run."""

from __future__ import annotations

from pplm.pretraining.settings import TrainingSettings

_FULL_LENGTH_FROM = 0.9
"""Progress from which blocks are whole contexts: before, shorter ones save attention, the costliest part of a pass."""
_LATE_FROM = 0.5
"""Progress from which a step reads `late_tokens_per_step`: late in training a less noisy gradient pays off."""


def progress(settings: TrainingSettings, *, step: int, seconds: float) -> float:
    """Return the share of the budget that is spent, 0 to 1."""
    spent = step / settings.steps if settings.steps else seconds / (60 * (settings.minutes or 0) or 1e-9)
    return min(1.0, spent)


def lr_share(settings: TrainingSettings, *, step: int, done: float) -> float:
    """Return the share of the peak learning rate at 0-based `step` and progress `done`."""
    rise = (step + 1) / settings.warmup_steps if step < settings.warmup_steps else 1.0
    falling = max(0.0, done - settings.plateau) / max(1e-9, 1 - settings.plateau)
    return rise * (1 - (1 - settings.final_lr) * falling)


def spans_per_step(settings: TrainingSettings, *, done: float, num_positions: int) -> int:
    """Return how many spans of `num_positions` tokens a step reads."""
    tokens = settings.tokens_per_step if done < _LATE_FROM else settings.late_tokens_per_step
    return max(1, tokens // num_positions)


def block_length(settings: TrainingSettings, *, done: float, num_positions: int) -> int:
    """Return the length of the blocks that spans are cut into."""
    return num_positions if done >= _FULL_LENGTH_FROM else min(settings.block_length, num_positions)
