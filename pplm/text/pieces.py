"""A completion as text: whole, and piece by piece while it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pplm.errors import InputError
from pplm.text.prompts import Prompt

_INCOMPLETE = "\ufffd"
"""What bytes decode to that are not a character, or not a whole one yet."""


def completion_of(tokenizer: Any, prompt: Prompt, token_ids: Sequence[int]) -> str:
    """Decode new tokens together with their prompt, because some tokenizers drop a leading space otherwise."""
    if token_ids and token_ids[-1] in prompt.ends:  # which need not be special, so decoding may not skip it
        token_ids = token_ids[:-1]
    before = text_before(tokenizer, prompt)
    whole = tokenizer.decode([*prompt.ids, *token_ids], skip_special_tokens=True)
    if whole.startswith(before):
        return whole[len(before) :]
    return tokenizer.decode(token_ids, skip_special_tokens=True)


def text_before(tokenizer: Any, prompt: Prompt) -> str:
    """Return a prompt as the tokenizer decodes it."""
    return tokenizer.decode(prompt.ids, skip_special_tokens=True)


class Pieces:
    """Splits one completion into what each of its tokens adds; joined, the pieces are the completion.

    Text that may still change is held back: the bytes of an unfinished character and, if the tokenizer removes spaces
    before punctuation (`clean_up_tokenization_spaces`), the last two words.
    """

    def __init__(self, tokenizer: Any, prompt: Prompt) -> None:
        self._tokenizer, self._prompt = tokenizer, prompt
        self._cleans = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
        self.token_ids: list[int] = []
        self.texts: list[str] = []
        self.shown = ""

    def add(self, token_id: int, *, last: bool) -> str:
        """Take the next token; return what it adds. The `last` one adds all that was held back.

        Raises
        ------
        InputError
            If the tokenizer changes text that it decoded before.

        """
        self.token_ids.append(token_id)
        whole = completion_of(self._tokenizer, self._prompt, self.token_ids)
        settled = whole if last else self._settled(whole)
        if settled.startswith(self.shown):
            piece = settled[len(self.shown) :]
        elif last or not self.shown.startswith(settled):
            raise InputError(
                f"{type(self._tokenizer).__name__} changes earlier text as a text grows ({self.shown[-20:]!r} became "
                f"{settled[-20:]!r}), so a text cannot be shown token by token; leave out trace and on_token"
            )
        else:
            piece = ""
        self.shown += piece
        self.texts.append(piece)
        return piece

    def _settled(self, text: str) -> str:
        text = text.rstrip(_INCOMPLETE)
        return text.rpartition(" ")[0].rpartition(" ")[0] if self._cleans else text
