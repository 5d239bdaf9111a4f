"""From text to token ids, the same way for a prompt that is steered and for a text that a head is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pplm.errors import InputError


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
