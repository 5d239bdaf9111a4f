"""The core: normalised gradient steps on any list of tensors, given any objective (paper, section 3.2, eq. 3).

It handles no text, no vocabulary and no cache: GPT-2 and the sine wave are two callers of `steer`. Every quantity is
per sample, so one sample of a batch cannot influence another. Several losses are either summed, as published, or each
gets a step of its own and the steps are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.step import Step

State = Sequence[Sequence[Tensor]]
"""G groups of tensors; the first dimension of every tensor is the sample (B). A group is normalised together."""

Objective = Callable[[State], tuple[Tensor, Tensor]]
"""Maps a state to its attribute loss (B,) and its divergence from the unsteered outcome (B,).

For A steps (`steer(..., steps=...)`) it returns A losses (A, B) instead, infinite where one cannot act on a sample.
"""

NORM_EPSILON = 1e-15
"""Added to a gradient norm before dividing, the published value; only matters where a gradient vanishes."""


@dataclass(frozen=True)
class Steered:
    """What `steer` returns.

    Attributes
    ----------
    state
        The moved state, same groups, shapes and dtypes as the given one.
    attribute_loss, divergence
        (I, B): before each iteration's update; (I, A, B) losses for A steps.
    gradient_norms
        (I, G, B): Euclidean norm of each group's weighted gradient; for A steps, of their A gradients taken together.
    norms
        (G, B), for A steps (A, G, B): the largest norms so far, to pass in for the next token.
    untouched
        (B,) bool: the given `untouched`, less the samples that were moved now; None if none was given.
    cosines
        (A, A, B): between the A weighted gradients of the first iteration, below 0 where two steps pull against each
        other; None for a single step.
    reach
        (B,): length of the dial's steps, as a ratio to what it would be if every gradient were as long as the longest
        of its text so far. At most 1 with `norm_rule` "running_max"; 1 with "current" and `gamma` 1, wherever there is
        a gradient. None without the dial.

    """

    state: list[list[Tensor]]
    attribute_loss: Tensor
    divergence: Tensor
    gradient_norms: Tensor
    norms: Tensor
    untouched: Tensor | None = None
    cosines: Tensor | None = None
    reach: Tensor | None = None


def steer(
    state: State,
    objective: Objective,
    config: SteeringConfig,
    norms: Tensor | None = None,
    *,
    steps: Sequence[Step] | None = None,
    weights: Tensor | Sequence[Tensor | None] | None = None,
    push: Tensor | None = None,
    untouched: Tensor | None = None,
) -> Steered:
    """Move a state downhill on `attribute loss + kl_scale * divergence`, starting from a zero perturbation.

    One iteration is d <- d - step_size * g / norm^gamma for each group, g being the group's gradient times
    `weights` and norm its Euclidean norm per sample, or the running maximum of it (`norm_rule`). With `steps` each of
    the A losses has such a gradient, that of `loss + kl_scale * divergence`, and such a step; all A are taken at once.
    With the dial (`config.dialled`) `step_size` is in units of the loss: it is divided by the sum of the groups'
    largest norms so far.
    The given tensors are not changed, and nothing but the perturbation receives a gradient.

    Parameters
    ----------
    state
        G groups of tensors (B, ...).
    objective
        Called once per iteration with the moved state.
    config
        Its `num_iterations`, `kl_scale` and `dialled` are used and, without `steps`, its `step_size`, `gamma` and
        `norm_rule`.
    norms
        (G, B), or (A, G, B), as returned for the previous token; None at the start of a text.
    steps
        One for each of the objective's A losses; None if it returns a single loss (B,).
    weights
        Factor on the gradients, broadcastable to every tensor of the state; None weighs all positions alike. With
        `steps`, one for all of them or a list with one each.
    push
        (B,): a factor on every step of a sample; None is 1.
    untouched
        (B,) bool: samples that nothing has moved so far, so that their divergence is 0. Its gradient is then rounding
        noise, which normalisation would blow up to a whole step; so their divergence is left out until the attribute
        moves them.

    Raises
    ------
    InputError
        If the losses are not (B,), or with `steps` (A, B), or do not depend on the state.

    """
    batch = state[0][0].shape[0]
    rules = [config.step] if steps is None else steps
    factors = [weights] * len(rules) if weights is None or isinstance(weights, Tensor) else weights
    # The perturbation of a half-precision state is float32: a step is far smaller than the format's spacing.
    deltas = [[torch.zeros_like(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in g] for g in state]
    if norms is None:
        norms = deltas[0][0].new_zeros(len(rules), len(state), batch)
    norms = norms.view(len(rules), len(state), batch)
    attribute_losses, divergences, gradient_norms = [], [], []
    taken = longest = norms.new_zeros(batch)  # squares of lengths
    cosines = None
    for _ in range(config.num_iterations):
        deltas = [[d.detach().requires_grad_() for d in group] for group in deltas]
        with torch.enable_grad():
            attribute_loss, divergence = objective(_moved(state, deltas))
            _check_losses(attribute_loss, divergence, (batch,) if steps is None else (len(rules), batch))
            held_back = divergence if untouched is None else torch.where(untouched, 0.0, divergence)
            # Samples are independent, so the gradient of their sum is each sample's own.
            totals = [total.sum() for total in _totals(attribute_loss, config.kl_scale * held_back, batch)]
        gradients = [
            _gradients(total, deltas, factor, keep_graph=total is not totals[-1])
            for total, factor in zip(totals, factors, strict=True)
        ]
        current = torch.stack([torch.stack([whole_norm(group) for group in own]) for own in gradients])
        untouched = None if untouched is None else untouched & (current == 0).all(0).all(0)
        norms = torch.maximum(norms, current)
        if cosines is None and len(rules) > 1:
            cosines = gradient_cosines([[t for group in own for t in group] for own in gradients])
        deltas = [[d.detach() for d in group] for group in deltas]
        for rule, own, largest, now in zip(rules, gradients, norms, current, strict=True):
            norm = largest if rule.norm_rule == "running_max" else now
            size = rule.step_size / (largest.sum(0) + NORM_EPSILON) if config.dialled else rule.step_size
            size = size if push is None else size * push
            # Where the norm is 0, the sample stays where it is, instead of dividing zero by zero.
            scales = torch.where(norm > 0, size / (norm + NORM_EPSILON) ** rule.gamma, 0.0)
            if config.dialled:
                taken = taken + (scales * now).square().sum(0)
                longest = longest + torch.where(largest > 0, size * largest ** (1 - rule.gamma), 0.0).square().sum(0)
            deltas = [
                [d - _per_sample(scale, g) * g for d, g in zip(delta_group, gradient_group, strict=True)]
                for delta_group, gradient_group, scale in zip(deltas, own, scales, strict=True)
            ]
        attribute_losses.append(attribute_loss.detach())
        divergences.append(divergence.detach())
        gradient_norms.append(current[0] if steps is None else torch.linalg.vector_norm(current, dim=0))
    shape = (batch,) if steps is None else (len(rules), batch)
    return Steered(
        state=[[t.detach() for t in group] for group in _moved(state, deltas)],
        attribute_loss=torch.stack(attribute_losses) if attribute_losses else norms.new_empty(0, *shape),
        divergence=torch.stack(divergences) if divergences else norms.new_empty(0, batch),
        gradient_norms=torch.stack(gradient_norms) if gradient_norms else norms.new_empty(0, *norms.shape[1:]),
        norms=norms[0] if steps is None else norms,
        untouched=untouched,
        cosines=cosines,
        reach=torch.where(longest > 0, (taken / longest).sqrt(), 0.0) if config.dialled else None,
    )


def gradient_cosines(gradients: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the cosines (A, A, B) between A gradients, each of the same tensors (B, ...); 0 where one is zero."""
    flat = torch.stack([torch.cat([t.flatten(1).float() for t in own], dim=1) for own in gradients])
    directions = torch.nn.functional.normalize(flat, dim=-1)
    return torch.einsum("abn,cbn->acb", directions, directions)


def _totals(losses: Tensor, held_back: Tensor, batch: int) -> list[Tensor]:
    """Return, for each step, the sum (B,) that it lowers: its loss, of (B,) or (A, B), plus the scaled divergence."""
    if losses.shape == (batch,):
        return [losses + held_back]
    # Where a loss cannot act, the divergence is left out too: on its own, normalised, it would make a whole step.
    acts = losses.detach().isfinite()
    return [torch.where(own, loss + held_back, 0.0) for own, loss in zip(acts, losses, strict=True)]


def _moved(state: State, deltas: State) -> list[list[Tensor]]:
    return [
        [(t + d).to(t.dtype) for t, d in zip(group, delta_group, strict=True)]
        for group, delta_group in zip(state, deltas, strict=True)
    ]


def _gradients(total: Tensor, deltas: State, weights: Tensor | None, *, keep_graph: bool = False) -> list[list[Tensor]]:
    """Weighted gradients of the loss, zero for tensors it does not depend on."""
    if not total.requires_grad:
        raise InputError("the loss does not depend on the state; an attribute model must keep the autograd graph")
    flat = [d for group in deltas for d in group]
    found = iter(torch.autograd.grad(total, flat, allow_unused=True, retain_graph=keep_graph))
    gradients = [[torch.zeros_like(d) if (g := next(found)) is None else g for d in group] for group in deltas]
    if weights is None:
        return gradients
    return [[g * weights for g in group] for group in gradients]


def whole_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of several tensors (B, ...) taken together, per sample: (B,)."""
    parts = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    return torch.linalg.vector_norm(parts, dim=0)


def _per_sample(scale: Tensor, like: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, ...) with as many dimensions as `like`."""
    return scale.view(-1, *[1] * (like.dim() - 1))


def _check_losses(attribute_loss: Tensor, divergence: Tensor, shape: tuple[int, ...]) -> None:
    for name, loss, wanted in (("attribute loss", attribute_loss, shape), ("divergence", divergence, shape[-1:])):
        if loss.shape != wanted:
            each = "sample" if len(wanted) == 1 else "step and sample"
            raise InputError(f"the {name} must be one number per {each}, shape {wanted}; got {tuple(loss.shape)}")
