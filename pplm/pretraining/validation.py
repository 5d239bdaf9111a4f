"""How well a model predicts text that it has not seen, per token and, independently of the tokenizer, per character."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pplm.pretraining.loss import LanguageModelLoss

_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Validation:
    """Loss on held-out text.

    Attributes
    ----------
    nats_per_token
        Mean of -ln p; its exponential is the perplexity.
    bits_per_character
        The same sum of losses, in bits, divided by the number of characters: comparable between tokenizers.
    tokens, characters
        Numbers of tokens predicted and of characters in the text.

    """

    nats_per_token: float
    bits_per_character: float
    tokens: int
    characters: int

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return math.exp(self.nats_per_token)


def validate(model: nn.Module, tokens: NDArray[Any], *, characters: int, num_positions: int) -> Validation:
    """Read a token stream (N,) in windows of `num_positions`, each predicting its next tokens.

    The first token, which only begins the first document, is not predicted.
    """
    device = next(model.parameters()).device
    was_training = model.training
    loss_of = LanguageModelLoss(model.eval(), torch.float32)
    ids = torch.from_numpy(np.asarray(tokens).astype(np.int64))
    total = 0.0
    with torch.no_grad():
        for start, stop in _batches(len(ids) - 1, num_positions):
            width = min(num_positions, stop - start)
            inputs = ids[start:stop].view(-1, width).to(device)
            targets = ids[start + 1 : stop + 1].view(-1, width).to(device)
            positions = torch.arange(width, device=device).expand(len(inputs), -1)
            total += loss_of(inputs, targets, positions).item()
    model.train(was_training)
    predicted = len(ids) - 1
    return Validation(total / predicted, total / math.log(2) / characters, predicted, characters)


def _batches(length: int, width: int) -> list[tuple[int, int]]:
    """Cut `length` positions into ranges of whole windows, and one last shorter window."""
    whole = length // width * width
    size = max(1, _BATCH_TOKENS // width) * width
    ranges = [(start, min(start + size, whole)) for start in range(0, whole, size)]
    return ranges + ([(whole, length)] if whole < length else [])
