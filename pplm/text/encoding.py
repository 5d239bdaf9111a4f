"""From text to token ids, in the same way for prompts to steer and for texts to train a head on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pplm.errors import InputError, SteeringWarning
from pplm.short_repr import quoted

_END_OF_TEXT = "<|endoftext|>"
"""The token between documents in the training data of models with ChatML templates."""


@dataclass(frozen=True)
class TextTokens:
    """A text's T tokens.

    Attributes
    ----------
    ids
        With the model's beginning-of-text token first, if it has one, and without any end that the tokenizer adds.
    starts
        The character at which each token begins; -1 for tokens that stand for no character of the text.

    """

    ids: list[int]
    starts: list[int]


def encode_prompt(model: Any, tokenizer: Any, prompt: str, *, bos: bool = True) -> list[int]:
    """Return a prompt's token ids, beginning with the model's beginning-of-text token if `bos`.

    The prompt ends with its own last token; tokens that the tokenizer would add behind it, to end a text, are left out.
    A prompt that itself begins with a beginning-of-text token gets no second one.

    Raises
    ------
    InputError
        If the prompt is not a string that can be encoded, is nothing but white space, or has a token that the model
        has no embedding for.

    """
    check_text("the prompt", prompt)
    tokens = _encode(model, tokenizer, [prompt], bos=bos)[0]
    if max(tokens.starts, default=-1) < 0:
        raise InputError(f"the tokenizer has no token for anything in the prompt {prompt!r}; use other words")
    return tokens.ids


def encode_texts(model: Any, tokenizer: Any, texts: Sequence[str], *, bos: bool = True) -> list[list[int]]:
    """Return what `encode_prompt` returns for each text, in one call of the tokenizer.

    Raises
    ------
    InputError
        If a text is not a string that can be encoded, is nothing but white space, or has a token that the model has no
        embedding for.

    """
    for number, text in enumerate(texts):
        check_text(f"text {number} of {len(texts)}", text)
    return [text.ids for text in _encode(model, tokenizer, texts, bos=bos)]


def encode_with_starts(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[TextTokens]:
    """Return the ids of `encode_texts` and where in the text each begins; empty texts are allowed.

    Raises
    ------
    InputError
        If the tokenizer cannot report where its tokens begin, or a text is not a string that can be encoded or has a
        token that the model has no embedding for.

    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"the tokenizer {type(tokenizer).__name__} cannot report where its tokens begin; take a model with a fast "
            "one"
        )
    for number, text in enumerate(texts):
        check_text(f"text {number} of {len(texts)}", text, may_be_empty=True)
    return _encode(model, tokenizer, texts, bos=True, return_offsets_mapping=True)


def check_text(name: str, text: Any, *, may_be_empty: bool = False) -> None:
    """Refuse what is not a string, is empty (white space counts as empty) or cannot be encoded.

    Raises
    ------
    InputError
        With `name` and the remedy.

    """
    if not isinstance(text, str):
        raise InputError(
            f"{name} must be a string; got {type(text).__name__}; decode token ids with tokenizer.decode(ids), turn "
            "messages into text with tokenizer.apply_chat_template(messages, tokenize=False)"
        )
    if not may_be_empty and not text.strip():
        raise InputError(f"{name} {text!r} is empty; give at least one word, or leave it out")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{name} {quoted(text)} holds bytes that are no text; write it in UTF-8")


def check_ids(model: Any, tokenizer: Any, ids: Sequence[int]) -> None:
    """Refuse tokens that the model has no embedding for.

    Raises
    ------
    InputError
        With the first of them.

    """
    rows = model.get_input_embeddings().weight.shape[0]
    if (beyond := next((token for token in ids if token >= rows), None)) is not None:
        raise InputError(
            f"the tokenizer's token {tokenizer.convert_ids_to_tokens(beyond)!r} has the id {beyond}, the model has "
            f"{rows} tokens; use the tokenizer that belongs to the model"
        )


def pad_right(rows: Sequence[Sequence[int]], device: torch.device, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Return token ids (B, T) padded on the right, and which of them are real, (B, T) bool.

    T is `width`, or the length of the longest row for None. Under causal attention no real token sees such padding, and
    positions count from the text's start.
    """
    length = width or max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) < lengths[:, None]


def mask_arguments(mask: Tensor) -> dict[str, Tensor]:
    """Return the argument `attention_mask` for a mask (B, T); no argument if there is no padding, which is faster."""
    return {} if bool(mask.all()) else {"attention_mask": mask.long()}


def bos_token_id(model: Any, tokenizer: Any = None) -> int | None:
    """Return the id of the token that a text begins with; None if neither model nor tokenizer has one.

    Chat models may declare the token that opens a turn (ChatML's <|im_start|>). After it they expect a role, and do not
    continue with prose. Their documents begin with <|endoftext|> if that is one of their tokens, else with none.

    Warns
    -----
    SteeringWarning
        If a declared id is not one of the model's tokens; it is ignored.

    """
    declared = _declared_bos(model, tokenizer)
    return _end_of_text(tokenizer) if declared is not None and _opens_turns(tokenizer, declared) else declared


def _declared_bos(model: Any, tokenizer: Any) -> int | None:
    rows = model.get_input_embeddings().weight.shape[0]
    for place, name in ((model.config.get_text_config(), "model's configuration"), (tokenizer, "tokenizer")):
        bos_id = getattr(place, "bos_token_id", None)
        if bos_id is not None and 0 <= bos_id < rows:
            return bos_id
        if bos_id is not None:
            warnings.warn(
                f"the {name} has bos_token_id {bos_id}, which is none of the model's {rows} tokens; it is ignored",
                SteeringWarning,
                stacklevel=3,
            )
    return None


def _opens_turns(tokenizer: Any, bos_id: int) -> bool:
    """Return whether the chat template puts this token before the name of each turn's role."""
    template = getattr(tokenizer, "chat_template", None)
    token = tokenizer.convert_ids_to_tokens(bos_id) if isinstance(template, str) else None
    if token is None or token not in str(template):
        return False
    try:
        return f"{token}user" in tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    except Exception:  # noqa: BLE001 - a template is a program, and may refuse this message in its own way
        return False


def _end_of_text(tokenizer: Any) -> int | None:
    end = tokenizer.convert_tokens_to_ids(_END_OF_TEXT)
    return end if end is not None and tokenizer.convert_ids_to_tokens(end) == _END_OF_TEXT else None


def _encode(model: Any, tokenizer: Any, texts: Sequence[str], *, bos: bool, **options: Any) -> list[TextTokens]:
    """Return each text's tokens, with those that the tokenizer adds before a text and without those it adds behind."""
    if not texts:
        return []
    bos_id = bos_token_id(model, tokenizer)
    beginnings = {bos_id, getattr(tokenizer, "bos_token_id", None)}  # the latter begins a text of a chat's template
    # verbose=False: that a text is too long for the model is checked by the caller; the tokenizer need not warn of it.
    found = tokenizer(list(texts), return_special_tokens_mask=True, verbose=False, **options)
    offsets = found.get("offset_mapping") or [[(0, 0)] * len(ids) for ids in found.input_ids]
    result = []
    for ids, added, spans in zip(found.input_ids, found.special_tokens_mask, offsets, strict=True):
        # Only added tokens are marked as special; a special token in the text itself is the text's own.
        first = next((number for number, special in enumerate(added) if not special), len(ids))
        last = len(ids) - next((number for number, special in enumerate(reversed(added)) if not special), 0)
        own = list(ids[first:last])
        begin = [token for token in ids[:first] if token not in beginnings]
        if bos and bos_id is not None and not (own and own[0] in beginnings):
            begin = [bos_id, *begin]
        check_ids(model, tokenizer, [*begin, *own])
        result.append(TextTokens([*begin, *own], [-1] * len(begin) + [start for start, _ in spans[first:last]]))
    return result
