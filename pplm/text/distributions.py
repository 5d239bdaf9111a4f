"""Per-row KL divergence and geometric fusion of next-token distributions, in log space (paper, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
        # Where p is 0 the difference may be -inf minus -inf, and has no share in the sum.
        difference = (log_p - log_r).masked_fill_(p == 0, 0.0)
        ctx.save_for_backward(p, difference)
        return (p * difference).sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        p, difference = ctx.saved_tensors
        return torch.addcmul(p, p, difference).mul_(gradients[0].unsqueeze(-1)), None


def fuse(unsteered_logits: Tensor, steered_logits: Tensor, gm_scale: float) -> Tensor:
    """Logits of the geometric mean p_steered^gm_scale * p_unsteered^(1 - gm_scale), up to a constant per row.

    The softmax of interpolated logits is exactly that mean, renormalised. Logits instead of log-probabilities
    keep their usual meaning for processors that look at the sign, such as the repetition penalty. Where both
    arguments are equal the result is bit-equal to them.

    Parameters
    ----------
    unsteered_logits, steered_logits
        (B, V).
    gm_scale
        0 gives the unsteered logits, 1 the steered ones.

    Returns
    -------
    Tensor
        (B, V).

    """
    if gm_scale in (0, 1):
        return (steered_logits if gm_scale else unsteered_logits).clone()
    fused = torch.lerp(unsteered_logits, steered_logits, gm_scale)
    # What one of the two excludes has no share in a product; interpolating to -inf would give NaN.
    fused = fused.masked_fill(unsteered_logits.isneginf() | steered_logits.isneginf(), -torch.inf)
    return torch.where(unsteered_logits == steered_logits, unsteered_logits, fused)
