"""Prompts: texts to continue, or conversations to answer."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pplm.errors import InputError
from pplm.text.chat_template import Message, check_messages, encode_messages, turn_end_ids
from pplm.text.encoding import check_ids, encode_prompt


@dataclass(frozen=True)
class Prompt:
    """A prompt of T tokens.

    Attributes
    ----------
    shown
        The text itself; of a conversation, the content of its last message.
    ids
        T token ids.
    in_content
        Whether each of them counts in the mean hidden state that discriminators read; None if all do. In a conversation
        those of the messages' contents do.
    messages
        The conversation; None for a text.
    ends
        Ids that end the answer, besides those of the model's generation config.

    """

    shown: str
    ids: list[int]
    in_content: list[bool] | None = None
    messages: list[dict[str, Any]] | None = None
    ends: tuple[int, ...] = ()

    @property
    def joint(self) -> str:
        """What is put between the prompt and its completion to show both as one text."""
        return "" if self.messages is None else "\n\n"


def list_prompts(prompts: Any) -> list[str] | list[list[Message]]:
    """Return prompts as a list of texts, or of conversations, each a list of messages.

    Raises
    ------
    InputError
        If they are neither, or a mixture of both.

    """
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts, Set):
        raise InputError("prompts must have an order, and a set has none; pass a list")
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping | Tensor | bytes):
        raise InputError(
            f"prompts must be a text or a list of texts, or of messages; got {type(prompts).__name__}; pass the text "
            "itself instead of its token ids, and a message in a list"
        )
    prompts = list(prompts)
    kinds = {_kind(prompt) for prompt in prompts}
    if not kinds <= {"text", "message", "conversation"}:
        wrong = next(prompt for prompt in prompts if _kind(prompt) == "other")
        shown = f"{type(wrong).__name__} {reprlib.repr(wrong)}"
        raise InputError(f"each of prompts must be a text (str); got {shown}; leave it out or write it as text")
    if len(kinds) > 1:
        raise InputError(f"prompts mixes {_and(kinds)}; pass texts in one call and conversations in another")
    if kinds == {"text"} or not prompts:
        return prompts
    if kinds == {"message"}:
        return [check_messages("messages", prompts)]
    return [check_messages(f"conversation {number}", prompt) for number, prompt in enumerate(prompts)]


def read_prompt(model: Any, tokenizer: Any, prompt: str | Sequence[Message], *, bos: bool = True) -> Prompt:
    """Return a text's or a conversation's prompt; `bos` is as in `encode_prompt` and does not affect conversations.

    Raises
    ------
    InputError
        As `encode_prompt` and `encode_messages`.

    """
    if isinstance(prompt, str):
        return Prompt(prompt, encode_prompt(model, tokenizer, prompt, bos=bos))
    tokens = encode_messages(tokenizer, prompt)
    check_ids(model, tokenizer, tokens.ids)
    messages = [dict(message) for message in prompt]
    return Prompt(messages[-1]["content"], tokens.ids, tokens.in_content, messages, tuple(turn_end_ids(tokenizer)))


def pad_left(prompts: Sequence[Prompt], pad_id: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return ids, mask and content mask, (B, T) each, of prompts of different lengths, padded on the left.

    The content mask is True where a position counts in the mean hidden state; it is None if all real ones do.
    """
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([[pad_id] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts])
    if all(prompt.in_content is None for prompt in prompts):
        return ids, mask, None
    rows = [prompt.in_content or [True] * len(prompt.ids) for prompt in prompts]
    return ids, mask, torch.tensor([[False] * (width - len(row)) + row for row in rows])


def _kind(prompt: Any) -> str:
    if isinstance(prompt, str):
        return "text"
    if isinstance(prompt, Mapping):
        return "message"
    # A list of token ids is no conversation: its items are numbers.
    is_list = isinstance(prompt, Sequence) and not isinstance(prompt, bytes)
    return "conversation" if is_list and (not prompt or any(isinstance(item, Mapping) for item in prompt)) else "other"


def _and(kinds: Set[str]) -> str:
    return " and ".join(f"{kind}s" for kind in ("text", "message", "conversation") if kind in kinds)
