"""Texts that a language model writes unprompted and unsteered: the reference for weighing words and measuring bags."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attribute_models.completion import next_logits, start_of_text

_SAMPLES, _LENGTH, _SEED = 16, 32, 0


@torch.no_grad()
def own_texts(model: Any) -> tuple[Tensor, Tensor]:
    """Return B unsteered texts of the model and its next-token distributions at each of their N positions.

    Returns
    -------
    (token_ids, log_probs)
        (B, N) ids, of which the first is the beginning-of-text token (0 where the model has none), and (B, N, V): row
        n is the distribution after the first n + 1 tokens.

    """
    start = (start_of_text(model) or [0])[0]
    prompt = torch.full((_SAMPLES, 1), start, device=model.device)
    next_logits(model, prompt[:1])  # refuses a model whose logits are not finite before sampling fails on them
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(_SEED)  # measuring must not depend on the caller's seed or disturb it
        texts = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=_LENGTH,
            min_new_tokens=_LENGTH,
            do_sample=True,
            top_k=0,
            pad_token_id=start,
        )
    return texts, next_logits(model, texts).log_softmax(-1)
