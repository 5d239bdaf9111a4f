"""Next-token cross-entropy that never holds a full logit tensor.

A batch of 4,096 tokens over a vocabulary of 12,288 has 50 million logits: 200 MB in float32, three times over with
their gradient. Here each chunk's logits become its loss and its gradient in the same pass and are then dropped, which
also makes it faster than the plain loss on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_CHUNK = 512
"""Tokens per chunk: large enough for a matrix product at full speed, small enough for the processor's cache."""


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log p(target) in nats: hidden states (N, D), output embeddings (V, D), targets (N,) -> ()."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, embeddings: Tensor, targets: Tensor, dtype: torch.dtype, with_gradient: bool
    ) -> Tensor:
        """Compute the loss and, `with_gradient`, its gradient too, while the logits are in memory."""
        hidden_low, embeddings_low = hidden.to(dtype), embeddings.to(dtype)
        hidden_gradient = torch.empty_like(hidden_low)
        embedding_gradient = torch.zeros_like(embeddings)
        loss = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            target = targets[chunk, None]
            logits = (hidden_low[chunk] @ embeddings_low.T).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            loss += (normaliser - logits.gather(1, target)).sum()
            if not with_gradient:
                continue
            gradient = logits.sub_(normaliser).exp_()  # softmax minus one-hot
            gradient.scatter_add_(1, target, gradient.new_full(target.shape, -1.0))
            gradient = gradient.to(dtype)
            hidden_gradient[chunk] = gradient @ embeddings_low
            embedding_gradient += gradient.T @ hidden_low[chunk]
        ctx.save_for_backward(hidden_gradient.to(hidden.dtype), embedding_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Scale the gradients that the forward pass has computed."""
        hidden_gradient, embedding_gradient = ctx.saved_tensors
        return hidden_gradient * upstream[0], embedding_gradient * upstream[0], None, None, None


class LanguageModelLoss(nn.Module):
    """A GPT-2 with its loss in one module, so that data-parallel wrappers see a single forward pass."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, input_ids: Tensor, targets: Tensor, position_ids: Tensor) -> Tensor:
        """Return the summed loss of blocks (B, T) in nats."""
        with torch.autocast(input_ids.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            hidden = self.model.transformer(
                input_ids=input_ids, position_ids=position_ids, use_cache=False
            ).last_hidden_state
        embeddings = self.model.lm_head.weight
        # Read here, because gradients are always off inside a custom autograd function.
        with_gradient = torch.is_grad_enabled()
        return ChunkedCrossEntropy.apply(hidden.flatten(0, 1), embeddings, targets.flatten(), self.dtype, with_gradient)
