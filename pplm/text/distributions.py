"""Per-row KL divergence and geometric fusion of next-token distributions, in log space (paper, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FALSE_POSITIONS = 12
"""Steps of the search in `Tilt.affordable`: with a language model's logits, the divergence found is at most 3% below
its budget. It is never above."""


def kl_from_log_probs(log_p: Tensor, log_r: Tensor) -> Tensor:
    """KL(p || r) per row from log-probabilities (B, V): (B,), in nats; r takes no gradient.

    A token that p excludes (-inf) contributes nothing.
    """
    return _KL.apply(log_p, log_r)


class _KL(torch.autograd.Function):
    """The divergence with its gradient written out: a fraction of the passes over (B, V) that autograd would make."""

    @staticmethod
    def forward(ctx: Any, log_p: Tensor, log_r: Tensor) -> Tensor:
        p = log_p.exp()
        # Where p is 0 the difference may be -inf minus -inf; it does not count in the sum.
        difference = (log_p - log_r).masked_fill_(p == 0, 0.0)
        ctx.save_for_backward(p, difference)
        return (p * difference).sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        p, difference = ctx.saved_tensors
        return torch.addcmul(p, p, difference).mul_(gradients[0].unsqueeze(-1)), None


def fuse(unsteered_logits: Tensor, steered_logits: Tensor, gm_scale: float | Tensor) -> Tensor:
    """Logits of the geometric mean p_steered^gm_scale * p_unsteered^(1 - gm_scale), up to a constant per row.

    The softmax of interpolated logits is exactly that mean, renormalised. Logits instead of log-probabilities
    keep their usual meaning for processors that look at the sign, such as the repetition penalty. Where both
    arguments are equal the result is bit-equal to them.

    Parameters
    ----------
    unsteered_logits, steered_logits
        (B, V).
    gm_scale
        0 gives the unsteered logits, 1 the steered ones; one for all rows, or one for each, (B,).

    Returns
    -------
    Tensor
        (B, V).

    """
    if isinstance(gm_scale, Tensor):
        gm_scale = gm_scale[:, None]
        steered_logits = torch.where(gm_scale == 0, unsteered_logits, steered_logits)
    elif gm_scale in (0, 1):
        return (steered_logits if gm_scale else unsteered_logits).clone()
    fused = torch.lerp(unsteered_logits, steered_logits, gm_scale)
    # A token that either excludes has probability 0 in the mean; interpolating with -inf could give NaN.
    fused = fused.masked_fill(unsteered_logits.isneginf() | steered_logits.isneginf(), -torch.inf)
    return torch.where(unsteered_logits == steered_logits, unsteered_logits, fused)


class Tilt:
    """The geometric means of two distributions for every `gm_scale`, and how far each diverges from the unsteered one.

    Parameters
    ----------
    log_r
        (B, V): the unsteered log-probabilities.
    steered_logits
        (B, V).
    limit
        The largest `gm_scale`.

    Attributes
    ----------
    most
        (B,): the divergence at the limit, in nats.

    """

    def __init__(self, log_r: Tensor, steered_logits: Tensor, limit: float = 1.0) -> None:
        # A token that either excludes has probability 0 in the mean; it adds to the divergence only through the
        # probability that the others gain.
        excluded = log_r.isneginf() | steered_logits.isneginf()
        ratio = (steered_logits - log_r).masked_fill_(excluded, 0.0)
        self._log_r = log_r.masked_fill(excluded, -torch.inf)
        self._log_ratio = ratio.sub_(ratio.mean(-1, keepdim=True))  # a constant cancels, but a large one would round
        self._limit = torch.full_like(log_r[:, 0], limit)
        self.most = _kl_of_mean(self._log_r, self._log_ratio, self._limit, torch.empty_like(ratio))

    def affordable(self, budget: Tensor) -> Tensor:
        """Return the largest `gm_scale` per row, (B,), whose divergence is within a budget (B,), in nats.

        The divergence rises with `gm_scale`, its derivative being gm_scale times the variance of the log ratio, so its
        square root is nearly a straight line, and a few steps of false position (regula falsi) find where it meets the
        budget. A budget of 0 gives 0.
        """
        found = torch.where(budget > 0, self._limit, 0.0)
        over = self.most > budget
        if budget.device.type != "cpu":  # all rows: an accelerator would have to wait to learn which ones are over
            return torch.where(over, torch.minimum(found, self._meeting(budget, slice(None))), found)
        rows = (over & (budget > 0)).nonzero()[:, 0]
        return found.index_copy(0, rows, self._meeting(budget[rows], rows)) if len(rows) else found

    def _meeting(self, budget: Tensor, rows: Tensor | slice) -> Tensor:
        """Return the `gm_scale` at which the divergence of these rows meets their budget, approached from below."""
        log_r, log_ratio, limit, most = (own[rows] for own in (self._log_r, self._log_ratio, self._limit, self.most))
        share = torch.empty_like(log_ratio)
        wanted = budget.sqrt()
        low, high = torch.zeros_like(budget), limit
        below, above = -wanted, most.sqrt() - wanted
        for number in range(_FALSE_POSITIONS):
            step = (-below / (above - below)).nan_to_num(0.5).clamp(0.0, 1.0)
            if number % 4 == 3:  # in case the square root is far from a line, as with a single likely token
                step = torch.full_like(step, 0.5)
            middle = low + (high - low) * step
            here = _kl_of_mean(log_r, log_ratio, middle, share).sqrt() - wanted
            inside = here <= 0
            # As in the Illinois method, the value at the end that stays is halved, or that end would never move.
            below, above = torch.where(inside, here, below / 2), torch.where(inside, above / 2, here)
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        return low


def _kl_of_mean(log_r: Tensor, log_ratio: Tensor, gm_scale: Tensor, buffer: Tensor) -> Tensor:
    """Return KL(p || r) per row, (B,), of p proportional to r * exp(gm_scale * log_ratio).

    The (B, V) buffer is overwritten: with large vocabularies and batches, fresh memory would cost more than the sums.
    """
    share = torch.addcmul(log_r, gm_scale[:, None], log_ratio, out=buffer)
    largest = share.amax(-1, keepdim=True)
    total = share.sub_(largest).exp_().sum(-1)
    gained = torch.linalg.vecdot(share, log_ratio)
    return (gm_scale * gained / total - largest[:, 0] - total.log()).clamp(min=0)
