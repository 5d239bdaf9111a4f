"""What a text's history is steered towards: low losses of the attribute models, and a low KL from the unsteered text.

The core calls an objective with a moved window; `TextObjective` runs the language model over it and hands the outcome
to the attribute models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pplm.errors import InputError
from pplm.interface import SteeringStep, WeightedAttribute
from pplm.pooling import PooledHidden
from pplm.steering import State, gradient_cosines, whole_norm
from pplm.text.distributions import kl_from_log_probs
from pplm.text.forward import LastToken
from pplm.text.reader import LastTokenReader
from pplm.text.sampling import is_distribution


def pool_text(
    pooled: PooledHidden | None, last_counts: Tensor | None, hidden_state: Tensor, future: Tensor | None = None
) -> Tensor:
    """Return the mean hidden state (B, D) of texts.

    Parameters
    ----------
    pooled, last_counts
        As in `TextSoFar`.
    hidden_state
        (B, D), of the last position.
    future
        (B, F, D), of the F expected future positions; None without any.

    Raises
    ------
    InputError
        If `pooled` is None, because a caller's cache holds positions whose tokens are unknown.

    """
    if pooled is None:
        raise InputError(
            "past_key_values holds positions whose tokens are unknown, so the text has no mean hidden state; "
            "pass the whole text as input_ids (transformers feeds only what is new)"
        )
    recent = hidden_state[:, None]
    counts = torch.ones_like(recent[..., 0]) if last_counts is None else last_counts[:, None]
    if future is not None:
        # As published, the last token's own hidden state is then a constant: only the future's are optimised.
        recent = torch.cat([recent.detach(), future], dim=1)
        counts = torch.cat([counts, torch.ones_like(future[..., 0])], dim=1)
    return (pooled + PooledHidden.of(recent, counts)).mean


@dataclass(frozen=True)
class TextSoFar:
    """A batch of texts before one new token.

    Attributes
    ----------
    input_ids, attention_mask
        (B, T); the mask is bool.
    reader
        Reads the last token over the two histories.
    pooled
        Unsteered hidden states of the positions before the last; None if a caller's cache holds positions whose tokens
        are unknown.
    last_counts
        (B,) bool: whether the last token counts in the mean hidden state; None if all do.

    """

    input_ids: Tensor
    attention_mask: Tensor
    reader: LastTokenReader
    pooled: PooledHidden | None
    last_counts: Tensor | None = None

    def select(self, index: Tensor, horizon_length: int) -> TextSoFar:
        """Return the samples in `index`, over a copy of their histories with room for the future."""
        pooled = None if self.pooled is None else self.pooled.select(index)
        counts = None if self.last_counts is None else self.last_counts[index]
        reader = self.reader.select(index, horizon_length)
        return TextSoFar(self.input_ids[index], self.attention_mask[index], reader, pooled, counts)

    def pool(self, hidden_state: Tensor, future: Tensor | None = None) -> Tensor:
        """Return the mean hidden state (B, D) of the texts: `pool_text`."""
        return pool_text(self.pooled, self.last_counts, hidden_state, future)

    def unsteered_step(self, logits: Tensor | None = None) -> SteeringStep:
        """Return what attribute models read of the text as it stands, with its unsteered or the given logits (B, V)."""
        last = self.reader.unsteered
        own = last.logits if logits is None else logits
        return SteeringStep(self.input_ids, self.attention_mask, own, lambda: self.pool(last.hidden_state))


@dataclass
class TextObjective:
    """Maps a moved window to (attribute loss, KL), each (B,), and keeps the single losses behind the sum.

    Attributes
    ----------
    start
        The first position of the window.
    idle
        (A, B) bool: attribute models that shall not act on a sample; None if all shall.
    apart
        Whether each attribute model takes a step of its own; its losses (A, B) then go to the core unsummed and
        unweighted.
    reads_logits
        Whether the steering or any attribute model needs logits; if not, the iterations skip the language-model head.
    attribute_losses
        One (A, B) tensor per reading: the unweighted loss of each attribute model, NaN where it cannot act.
    outcomes
        (attribute loss, KL) per reading, each (B,); the KL is NaN if there were no logits.
    acted
        (A, B) bool: which attribute models could act on which samples at the last call.
    broke
        (A,) bool: which attribute models returned a loss that is not a number at any call.
    reached
        (B,) bool: the samples that any attribute model of non-zero weight can act on.
    logits
        (B, V): of the last call.
    gradient_cosines
        (A, A, B): cosines between the attribute models' gradients on the window at the first call; below 0 two
        attributes pull against each other. None with a single attribute model. With `apart` the core measures them, and
        they are filled in after it.
    probes
        Whether to measure `gradient_norms` even if that takes backward passes of its own: with a single attribute
        model, or with `apart`.
    gradient_norms
        (A, B): of each attribute model's gradient on the window at the first call.

    """

    attributes: Sequence[WeightedAttribute]
    text: TextSoFar
    start: int
    horizon_length: int
    attribute_losses: list[Tensor] = field(default_factory=list)
    outcomes: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    gradient_cosines: Tensor | None = None
    acted: Tensor = field(init=False)
    broke: Tensor | bool = False
    reached: Tensor | None = None
    idle: Tensor | None = None
    apart: bool = False
    reads_logits: bool = True
    probes: bool = False
    gradient_norms: Tensor | None = None
    logits: Tensor = field(init=False)

    def __call__(self, window: State) -> tuple[Tensor, Tensor]:
        """Run the model over the older history and the moved window."""
        last = self.text.reader.steered(self.start, window, logits=self.reads_logits)
        self.logits = last.logits.detach()
        step = self._shown(last)
        losses = self._losses(step, last)
        if not losses.requires_grad:
            raise InputError(
                "no gradient reaches the model's history from its logits: its layers pass none on, as some int8 "
                "modules; load the weights in float32, or in another format whose layers pass gradients on"
            )
        # With `apart` the core computes each attribute model's gradient anyway.
        if not self.attribute_losses and (self.probes or (len(self.attributes) > 1 and not self.apart)):
            tensors = [t for group in window for t in group]
            gradients = [
                torch.autograd.grad(loss.sum(), tensors, retain_graph=True, materialize_grads=True) for loss in losses
            ]
            self.gradient_norms = torch.stack([whole_norm(own) for own in gradients])
            self.gradient_cosines = gradient_cosines(gradients) if len(gradients) > 1 else None
        return self._outcome(step, losses)

    def after(self, last: LastToken) -> None:
        """Add the losses of the reading after the last step to those kept."""
        step = self._shown(last)
        self._outcome(step, self._losses(step, last), last=True)

    def _outcome(self, step: SteeringStep, losses: Tensor, *, last: bool = False) -> tuple[Tensor, Tensor]:
        """Keep a reading's losses (A, B); return what the core lowers: (attribute loss, KL), each (B,).

        With `apart` the losses are returned unweighted, (A, B). The `last` reading always has logits.
        """
        # An infinite loss has no gradient: the attribute model cannot act here; one of weight 0 never acts. Where none
        # acts, the KL is left out too: its gradient would be rounding noise, normalised to a whole step.
        self.attribute_losses.append(losses.detach().masked_fill(~self.acted, torch.nan))
        self.reached = (self.acted & (self._weights(losses) != 0)).any(0)
        loss = self._weigh(losses)
        to_lower = losses if self.apart else loss
        if not (self.reads_logits or last):  # then `kl_scale` is 0
            self.outcomes.append((loss.detach(), torch.full_like(loss.detach(), torch.nan)))
            return to_lower, torch.zeros_like(loss)
        divergence = kl_from_log_probs(step.log_probs, self.text.reader.unsteered_log_probs)
        divergence = torch.where(self.reached, divergence, 0.0)
        self.outcomes.append((loss.detach(), divergence.detach()))
        return to_lower, divergence

    def attribute_loss(self, last: LastToken) -> Tensor:
        """Return the weighted loss (B,) of a reading made elsewhere; 0 where no attribute model can act."""
        return self._weigh(self._losses(self._shown(last), last))

    def _shown(self, last: LastToken) -> SteeringStep:
        """Return what attribute models read after a reading of the last token."""

        def pool() -> Tensor:
            horizon = self.horizon_length
            return self.text.pool(last.hidden_state, self.text.reader.future(last.logits, horizon) if horizon else None)

        return SteeringStep(self.text.input_ids, self.text.attention_mask, last.logits, pool)

    def _losses(self, step: SteeringStep, last: LastToken) -> Tensor:
        losses = torch.stack([self._loss(attribute, step) for attribute in self.attributes])
        if self.idle is not None:
            losses = losses.masked_fill(self.idle, torch.inf)
        self.acted = losses.detach().isfinite()
        # Where the reading itself is broken, a loss that is not a number is not the attribute model's fault.
        sound = is_distribution(last.logits.detach()) if last.logits.shape[1] else last.hidden_state.isfinite().all(1)
        self.broke = self.broke | (losses.detach().isnan() & sound).any(1)
        return losses

    def _loss(self, attribute: WeightedAttribute, step: SteeringStep) -> Tensor:
        """Return an attribute model's loss (B,).

        Without look-ahead, steering changes the mean hidden state through the last position alone. Where that does not
        count, as before the first token of a chat's answer, a model that reads the mean cannot act.
        """
        counts = self.text.last_counts
        if counts is None or self.horizon_length:
            return attribute.loss(step)
        own = replace(step)  # a fresh step, whose cached properties show what this model read
        loss = attribute.loss(own)
        return torch.where(counts, loss, torch.inf) if "mean_hidden_state" in vars(own) else loss

    def _weigh(self, losses: Tensor) -> Tensor:
        """Return the weighted sum (B,) over those attribute models whose losses (A, B) are finite."""
        return torch.where(self.acted, self._weights(losses) * losses, 0.0).sum(0)

    def _weights(self, losses: Tensor) -> Tensor:
        """Return the attributes' weights (A, 1), like the losses (A, B)."""
        # Filled, not copied from a tensor of Python numbers, which would make an accelerator wait.
        return torch.cat([losses.new_full((1, 1), attribute.weight) for attribute in self.attributes])
