"""Texts that a language model writes by itself: the neutral ground on which words are weighed and bags measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attribute_models.completion import next_logits, start_of_text

_SAMPLES, _LENGTH, _SEED = 16, 32, 0


@torch.no_grad()
def own_texts(model: Any) -> tuple[Tensor, Tensor]:
    """Return B unsteered texts of the model and what it expected at each of their N positions.

    Returns
    -------
    (token_ids, log_probs)
        (B, N) ids, the first being the beginning of text, and (B, N, V): row n after the first n + 1 tokens.

    """
    start = (start_of_text(model) or [0])[0]
    prompt = torch.full((_SAMPLES, 1), start, device=model.device)
    next_logits(model, prompt[:1])  # a model that cannot be sampled from is refused here
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(_SEED)  # restored afterwards: measuring must not depend on, or disturb, the caller's seed
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
