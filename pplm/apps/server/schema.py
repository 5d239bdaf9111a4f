"""What clients may send: the fields of OpenAI's requests that are served, and `steering`.

A field of null counts as left out, and so does one that is not served but asks for nothing (`"presence_penalty": 0`),
because many clients send such fields with every request. Everything else that is not served is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pplm.apps.server.limits import LONGEST_STOP, MOST_MESSAGES, MOST_STOPS

NOT_SERVED: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_key": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "safety_identifier": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
"""OpenAI's fields that are not served, and the values of each that ask for nothing."""
_LARGEST_SEED = 2**63 - 1

Stop = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_STOP)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        """Leave out what is null or asks for nothing; refuse what is not served."""
        if not isinstance(given, dict):
            return given
        kept = {}
        for name, value in given.items():
            if value is None:
                continue
            if name in NOT_SERVED and name not in cls.model_fields:
                # In Python 0 is False, but "logprobs": 0 asks for the probability of the token that was drawn.
                if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in NOT_SERVED[name]):
                    continue
                raise PydanticCustomError("not_served", "{name} is not served here; leave it out", {"name": name})
            kept[name] = value
        return kept


class StreamOptions(_Strict):
    """Whether a stream ends with the count of tokens."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class TextRequest(_Strict):
    """The fields that both kinds of requests have; `user` is ignored."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1)
    seed: int | None = Field(None, ge=0, le=_LARGEST_SEED)
    stop: list[Stop] = Field(default=[], max_length=MOST_STOPS)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(10, ge=0, le=1_000_000)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    max_tokens: int | None = Field(None, ge=1)
    user: str | None = None
    steering: dict[str, Any] | None = None

    @field_validator("stop", "prompt", mode="before", check_fields=False)
    @classmethod
    def _list(cls, value: Any) -> Any:
        """Turn a single text into a list of one."""
        return [value] if isinstance(value, str) else value

    @property
    def arguments(self) -> dict[str, Any]:
        """How tokens are drawn, as transformers' `generate` takes it; a temperature of 0 takes the likeliest ones."""
        chosen: dict[str, Any] = {"do_sample": self.temperature > 0, "repetition_penalty": self.repetition_penalty}
        if self.temperature > 0:
            chosen |= {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return chosen


class CompletionRequest(TextRequest):
    """One or more texts to be continued."""

    prompt: list[str] = Field(min_length=1)


class TextPart(_Strict):
    """A part of a message; only text is served."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One message of a conversation; newer clients call the role of a system message developer."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)] = ""

    def plain(self) -> dict[str, str]:
        """Return the message as chat templates take it, its parts joined."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatRequest(TextRequest):
    """A conversation that awaits an answer."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_length(self) -> ChatRequest:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; leave out one of them")
        return self
