"""What clients are sent: completions and chat answers, whole or piece by piece, as OpenAI's clients read them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pplm.apps.server.errors import ApiError
from pplm.apps.server.jobs import Job, Piece
from pplm.apps.server.schema import ChatRequest, CompletionRequest

DONE = "data: [DONE]\n\n"


class Reply:
    """The reply to one request.

    To what OpenAI's replies hold it adds `pplm`: the seed, with which the same request gives the same texts, and
    warnings.
    """

    def __init__(self, request: CompletionRequest | ChatRequest, job: Job) -> None:
        self._job, self._chat = job, isinstance(request, ChatRequest)
        options = request.stream_options
        self._with_usage = options is not None and options.include_usage
        self._same = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": request.model,
        }

    def whole(self) -> dict[str, Any]:
        """Return the reply to a request whose texts are all written."""
        choices = []
        for index, row in enumerate(self._job.rows):
            text = row.answer.shown
            own = {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
            choices.append({"index": index, **own, "logprobs": None, "finish_reason": row.answer.finish})
        kind = "chat.completion" if self._chat else "text_completion"
        return {
            **self._same,
            "object": kind,
            "choices": choices,
            "usage": self._usage(),
            "pplm": self._own(self._job.notices),
        }

    async def events(self, first: Piece | None) -> AsyncIterator[str]:
        """Yield the server-sent events of a stream, given its first piece."""
        if self._chat:
            for index in range(len(self._job.rows)):
                yield self._chunk(index, {"role": "assistant", "content": ""})
        piece = first
        try:
            while piece is not None:
                if piece.text:
                    yield self._chunk(piece.index, {"content": piece.text} if self._chat else piece.text)
                if piece.ends:
                    yield self._chunk(piece.index, {} if self._chat else "", piece)
                piece = await self._job.next()
        except ApiError as error:
            yield _event(error.body())
            return
        if self._with_usage:
            yield _event({**self._head(), "choices": [], "usage": self._usage()})
        yield DONE

    def _chunk(self, index: int, added: Any, last: Piece | None = None) -> str:
        finish = None if last is None else self._job.rows[index].answer.finish
        choice = {"index": index, "delta" if self._chat else "text": added, "logprobs": None, "finish_reason": finish}
        own = {} if last is None else {"pplm": self._own(last.notices)}
        usage = {"usage": None} if self._with_usage else {}
        return _event({**self._head(), "choices": [choice], **usage, **own})

    def _head(self) -> dict[str, Any]:
        return {**self._same, "object": "chat.completion.chunk" if self._chat else "text_completion"}

    def _usage(self) -> dict[str, int]:
        asked, made = self._job.prompt_tokens, self._job.new_tokens
        return {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}

    def _own(self, notices: Sequence[str]) -> dict[str, Any]:
        warnings = {"warnings": list(notices)} if notices else {}
        return {"seed": self._job.rows[0].seed, **warnings}


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
