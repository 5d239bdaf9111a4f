"""FUDGE: the likeliest next tokens are reweighted by a classifier that reads the text with each of them appended.

Yang and Klein (2021, "FUDGE: controlled text generation with future discriminators").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList

from pplm.comparison.rivals.rival import Request, Rival
from pplm.interface import AttributeModel, SteeringStep, WeightedAttribute
from pplm.pooling import PooledHidden, model_body
from pplm.products import fast_products

_CANDIDATES = 50
"""Next tokens that are reweighted where `top_k` sets no limit."""
_ROWS_AT_ONCE = 128
"""Rows of a pass over candidates: each holds a copy of its text's keys and values."""


@dataclass(frozen=True, eq=False)
class Fudge(Rival):
    """Reweight the k likeliest next tokens by the head that steers in other methods.

    log p'(x | text) = log p(x | text) + strength * log p(class | text, x) + constant,  for the k likeliest tokens x

    The published classifier is trained to predict the class of a whole text from its beginning; this head is trained on
    beginnings of random length, which is the same target. All other tokens are excluded, as published.

    Attributes
    ----------
    strength
        Factor of the head's log-probability (>= 0; 0 leaves the k likeliest tokens as they are).
    candidates
        k: the run's `top_k`; 50 where that sets no limit.
    attributes
        Heads; with several, the sum of weight * log p(class | text, x) takes the place of the one log p.

    """

    title = "FUDGE, each of the top-k next tokens weighed by the head"
    needs = "a head, which reads whole texts"
    default_strength = 10.0

    strength: float
    candidates: int
    attributes: Sequence[WeightedAttribute]

    @staticmethod
    def fits(model: AttributeModel) -> bool:
        """Return whether an attribute model reads only the text, not the next token's distribution."""
        return getattr(model, "reads_logits", True) is False

    @classmethod
    def of(cls, request: Request) -> Fudge:
        """Return the method for some heads."""
        return cls(request.strength, request.sampling.get("top_k") or _CANDIDATES, request.attributes)

    @property
    def record(self) -> dict[str, Any]:
        """The strength and the number of candidates; the head belongs to the attribute's identity."""
        return {"strength": self.strength, "candidates": self.candidates}

    @contextmanager
    def decoding(self, model: Any) -> Iterator[dict[str, Any]]:
        """Yield the logits processor, which is also hooked into the model's passes."""
        weigh = WeighCandidates(model, self.attributes, strength=self.strength, candidates=self.candidates)
        handle = model.register_forward_hook(weigh.on_pass, with_kwargs=True)
        try:
            yield {"logits_processor": LogitsProcessorList([weigh])}
        finally:
            handle.remove()


class WeighCandidates(LogitsProcessor):
    """Reads the candidates as rows of a pass over the text's cache, and subtracts the heads' losses from their scores.

    `on_pass` must be a forward hook of the model: it receives the cache and the mean hidden state so far.
    """

    def __init__(
        self, model: Any, attributes: Sequence[WeightedAttribute], *, strength: float, candidates: int
    ) -> None:
        self.model, self.attributes, self.strength, self.candidates = model, attributes, strength, candidates
        self._cache: Any = None
        self._mask: Tensor | None = None
        self._positions: Tensor | None = None
        self._pooled: PooledHidden | None = None

    def on_pass(self, model: Any, inputs: Any, keywords: dict[str, Any], outputs: Any) -> None:  # noqa: ARG002
        """Keep what a pass leaves behind: the cache, the mask, the position and the sum of hidden states."""
        if outputs.hidden_states is None:  # a test of how the model treats padding, not the text
            return
        hidden = outputs.hidden_states[-1]
        self._cache, mask, positions = (
            keywords.get(name) for name in ("past_key_values", "attention_mask", "position_ids")
        )
        length = self._cache.get_seq_length()
        self._mask = hidden.new_ones(len(hidden), length, dtype=torch.long) if mask is None else mask
        if positions is not None:  # (1, T) where all samples share them
            positions = positions[..., -1:].expand(*positions.shape[:-2], len(hidden), 1)
        self._positions = positions
        own = PooledHidden.of(hidden, self._mask[:, -hidden.shape[1] :])
        begins = self._pooled is None or length == hidden.shape[1]
        self._pooled = own if begins else self._pooled + own  # type: ignore[operator]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return new scores (B, V): -inf for all but the candidates."""
        top = scores.topk(min(self.candidates, scores.shape[-1]), dim=-1)
        per = max(1, _ROWS_AT_ONCE // top.indices.shape[1])
        rows = torch.arange(len(scores), device=scores.device)
        losses = torch.cat([self._losses(input_ids, top.indices, some) for some in rows.split(per)])
        weighed = top.values - self.strength * losses.to(scores.dtype)
        return torch.full_like(scores, -torch.inf).scatter(1, top.indices, weighed)

    @torch.no_grad()
    def _losses(self, input_ids: Tensor, candidates: Tensor, samples: Tensor) -> Tensor:
        """Return the heads' weighted losses of some samples' texts with each candidate: (b, k)."""
        if self._pooled is None or self._mask is None:
            raise RuntimeError("no pass was seen: on_pass must be a forward hook of the model")
        count = candidates.shape[1]
        rows = samples.repeat_interleave(count)
        tokens = candidates[samples].reshape(-1, 1)
        mask = torch.cat([self._mask[rows], self._mask.new_ones(len(rows), 1)], dim=1)
        inputs = {"input_ids": tokens, "attention_mask": mask}
        if self._positions is not None:
            inputs["position_ids"] = self._positions[..., rows, :] + 1
        cache = DynamicCache(ddp_cache_data=[(layer.keys[rows], layer.values[rows]) for layer in self._cache.layers])
        with fast_products(self.model):
            read = model_body(self.model)(**inputs, past_key_values=cache, use_cache=True, return_dict=True)
        hidden = read.last_hidden_state
        pooled = self._pooled.select(rows) + PooledHidden.of(hidden, torch.ones_like(tokens))
        step = SteeringStep(
            torch.cat([input_ids[rows], tokens], dim=1), mask.bool(), hidden[:, 0, :0].float(), lambda: pooled.mean
        )
        return sum(a.weight * a.loss(step) for a in self.attributes).reshape(-1, count)  # type: ignore[union-attr]
