"""From text to token ids, the same way for a prompt that is steered and for a text that a head is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pplm.errors import InputError


@dataclass(frozen=True)
class TextTokens:
    """A text's T tokens.

    Attributes
    ----------
    ids
        With the model's beginning-of-text token in front, where it has one.
    starts
        The character at which each token begins; -1 for tokens that stand for no character of the text.

    """

    ids: list[int]
    starts: list[int]


def encode_prompt(model: Any, tokenizer: Any, prompt: str, *, bos: bool = True) -> list[int]:
    """Return a prompt's token ids, beginning with the model's beginning-of-text token if `bos`.

    Raises
    ------
    InputError
        If the prompt is empty or nothing but white space.

    """
    if not prompt.strip():
        raise InputError(f"the prompt {prompt!r} is empty; give at least one word")
    return _begin(list(tokenizer(prompt).input_ids), bos_token_id(model, tokenizer), bos=bos)


def encode_texts(model: Any, tokenizer: Any, texts: Sequence[str], *, bos: bool = True) -> list[list[int]]:
    """Return what `encode_prompt` returns for each text, in one call of the tokenizer.

    Raises
    ------
    InputError
        If a text is empty or nothing but white space.

    """
    for number, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"text {number} of {len(texts)} is empty; leave it out")
    if not texts:
        return []
    bos_id = bos_token_id(model, tokenizer)
    # verbose=False: what is longer than the context is the caller's to count, not the tokenizer's to warn of.
    return [_begin(list(ids), bos_id, bos=bos) for ids in tokenizer(list(texts), verbose=False).input_ids]


def encode_with_starts(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[TextTokens]:
    """Return the ids of `encode_texts` and where in the text each begins; an empty text is let through.

    Raises
    ------
    InputError
        If the tokenizer cannot say where its tokens begin.

    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"the tokenizer {type(tokenizer).__name__} cannot say where its tokens begin; take a model with a fast one"
        )
    if not texts:
        return []
    found = tokenizer(list(texts), return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    bos_id = bos_token_id(model, tokenizer)
    result = []
    for ids, offsets, added in zip(found.input_ids, found.offset_mapping, found.special_tokens_mask, strict=True):
        starts = [-1 if special else begin for (begin, _), special in zip(offsets, added, strict=True)]
        begun = _begin(list(ids), bos_id, bos=True)
        result.append(TextTokens(begun, [-1] * (len(begun) - len(ids)) + starts))
    return result


def pad_right(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return token ids (B, T) padded on the right, and which of them are real, (B, T) bool.

    Under causal attention no real token sees such padding, and positions count from the text's start.
    """
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) < lengths[:, None]


def mask_arguments(mask: Tensor) -> dict[str, Tensor]:
    """Return a model's `attention_mask` for a mask (B, T); none where there is no padding, which is faster."""
    return {} if bool(mask.all()) else {"attention_mask": mask.long()}


def bos_token_id(model: Any, tokenizer: Any) -> int | None:
    """Return the id of the model's beginning-of-text token; None if neither model nor tokenizer has one."""
    bos_id = model.config.get_text_config().bos_token_id
    return tokenizer.bos_token_id if bos_id is None else bos_id


def _begin(ids: list[int], bos_id: int | None, *, bos: bool) -> list[int]:
    if bos_id is None:
        return ids
    if bos:
        return ids if ids[:1] == [bos_id] else [bos_id, *ids]
    return ids[1:] if ids[:1] == [bos_id] and len(ids) > 1 else ids
