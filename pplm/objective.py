"""What GPT-2's history is steered towards: the attribute models' losses and the KL from the unsteered text.

The core calls an objective with a moved window; `TextObjective` runs the language model over it and shows the
outcome to the attribute models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pplm.distributions import kl_divergence
from pplm.errors import InputError
from pplm.forward import ModelInputs, expected_future, forward_last
from pplm.interface import SteeringStep, WeightedAttribute
from pplm.kv_cache import History, join_window
from pplm.pooling import PooledHidden
from pplm.steering import State


@dataclass(frozen=True)
class TextSoFar:
    """The unsteered side of one new token.

    Attributes
    ----------
    input_ids, attention_mask
        (B, T); the mask is bool.
    inputs
        Model inputs of the last token.
    logits
        (B, V) float32, unsteered logits of the token to come.
    history
        Unsteered keys and values of all T positions.
    pooled
        Unsteered hidden states of the positions before the last; None where a caller's cache hides them.

    """

    input_ids: Tensor
    attention_mask: Tensor
    inputs: ModelInputs
    logits: Tensor
    history: History
    pooled: PooledHidden | None


@dataclass
class TextObjective:
    """Maps a moved window to (attribute loss, KL), each (B,), and keeps what the sum hides.

    Attributes
    ----------
    attribute_losses
        One (A, B) tensor a call: the unweighted loss of each attribute model, NaN where it cannot act.
    steered
        (B,) bool: the samples that any attribute model can act on.
    gradient_cosines
        (A, A, B): cosine between the attribute models' gradients on the window at the first call; below 0 two
        attributes pull against each other. None with a single attribute model.

    """

    model: Any
    attributes: Sequence[WeightedAttribute]
    text: TextSoFar
    older: History
    horizon_length: int
    attribute_losses: list[Tensor] = field(default_factory=list)
    gradient_cosines: Tensor | None = None
    steered: Tensor | None = None

    def __call__(self, window: State) -> tuple[Tensor, Tensor]:
        """Run the model over the older history and the moved window."""
        last = forward_last(self.model, self.text.inputs, join_window(self.older, [list(g) for g in window]))

        def pool() -> Tensor:
            text = self.text
            if text.pooled is None:
                raise InputError(
                    "past_key_values holds positions whose tokens are unknown, so the text has no mean hidden state; "
                    "pass the whole text as input_ids (transformers feeds only what is new)"
                )
            future = expected_future(self.model, text.inputs, text.history, last.logits, self.horizon_length)
            # The last token's own hidden state counts as a constant, as published: only the future is optimised.
            recent = torch.cat([last.hidden_state.detach()[:, None], future], dim=1)
            return (text.pooled + PooledHidden.of(recent, torch.ones_like(recent[..., 0]))).mean

        step = SteeringStep(self.text.input_ids, self.text.attention_mask, last.logits, pool)
        losses = torch.stack([attribute.loss(step) for attribute in self.attributes])
        if len(self.attributes) > 1 and not self.attribute_losses:
            self.gradient_cosines = _gradient_cosines(losses, window)
        # An infinite loss has no gradient: the attribute model cannot act here. Where none can, the KL is left out
        # too; its gradient would be rounding noise, which the core would normalise to a whole step.
        acts = losses.detach().isfinite()
        self.attribute_losses.append(losses.detach().masked_fill(~acts, torch.nan))
        self.steered = acts.any(0)
        weights = losses.new_tensor([attribute.weight for attribute in self.attributes])
        attribute_loss = torch.where(acts, weights[:, None] * losses, 0.0).sum(0)
        divergence = torch.where(self.steered, kl_divergence(last.logits, self.text.logits), 0.0)
        return attribute_loss, divergence


def _gradient_cosines(losses: Tensor, window: State) -> Tensor:
    """Return the cosines (A, A, B) between the gradients of losses (A, B) with respect to the whole window."""
    tensors = [t for group in window for t in group]
    rows = []
    for loss in losses:
        gradients = torch.autograd.grad(loss.sum(), tensors, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten(1).float() for g in gradients], dim=1))
    directions = torch.nn.functional.normalize(torch.stack(rows), dim=-1)
    return torch.einsum("abn,cbn->acb", directions, directions)
