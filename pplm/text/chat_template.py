"""From a list of messages to the token ids that a tokenizer's chat template makes of them.

A template puts tokens of its own around every message: roles, separators, often a whole system message. The model needs
them, but they are nobody's words, so they are told apart from the messages' contents here.
"""

from __future__ import annotations

import re
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jinja2

from pplm.errors import InputError, SteeringWarning
from pplm.text.encoding import check_text

Message: TypeAlias = Mapping[str, Any]
"""`{"role": "user", "content": "..."}`; further entries are passed on to the template."""

_FILLER = "qzmessage{}zq"
"""Stands in for a message's content, to find the template's own text."""
_FILLERS = re.compile(_FILLER.format(r"(\d+)"))
Span = tuple[int, int]


@dataclass(frozen=True)
class ChatTokens:
    """A conversation's T tokens, ready to be answered.

    Attributes
    ----------
    ids
        Those of the template's text, with no second beginning-of-text token added.
    in_content
        Whether each token belongs to a message's content; False for the template's own.

    """

    ids: list[int]
    in_content: list[bool]


def check_messages(name: str, messages: Any) -> list[Message]:
    """Return a conversation that a model can answer; `name` is what errors call it.

    Raises
    ------
    InputError
        If it is no list of messages with a role and a content, or its last message is the assistant's.

    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise InputError(f"{name} must be a list of messages; got {type(messages).__name__} {reprlib.repr(messages)}")
    if not messages:
        raise InputError(f"{name} holds no message; give at least one, of role user")
    for number, message in enumerate(messages):
        where = f"{name}, message {number}"
        if not isinstance(message, Mapping):
            raise InputError(
                f'{where} must be {{"role": ..., "content": ...}}; got {type(message).__name__} {reprlib.repr(message)}'
            )
        for key in ("role", "content"):
            if key not in message:
                raise InputError(f"{where} has no {key}; it has {', '.join(map(str, message)) or 'nothing'}")
            if not isinstance(message[key], str):
                kind = type(message[key]).__name__
                raise InputError(f"{where}: {key} must be a text; got {kind} {reprlib.repr(message[key])}")
        check_text(f"{where}: role", message["role"])
        # An answer may be empty: a model may have said nothing, and the conversation goes on all the same.
        check_text(f"{where}: content", message["content"], may_be_empty=message["role"] == "assistant")
    if messages[-1]["role"] == "assistant":
        raise InputError(f"{name} ends with the assistant's own message; end with the one that is to be answered")
    return list(messages)


def encode_messages(tokenizer: Any, messages: Sequence[Message], *, name: str = "messages") -> ChatTokens:
    """Return the ids that the tokenizer's chat template makes of a conversation, up to where the answer begins.

    Raises
    ------
    InputError
        If the conversation is malformed (`check_messages`), the tokenizer has no template or cannot report where its
        tokens begin, or the template refuses the messages.

    Warns
    -----
    SteeringWarning
        If the template rewrites a message so that it cannot be found; its tokens then count as the template's.

    """
    messages = check_messages(name, messages)
    check_template(tokenizer)
    rendered = _render(tokenizer, messages, name)
    spans = _content_spans(tokenizer, messages, rendered, name)
    found = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    in_content = [
        any(start < stop and first < end for first, stop in spans if stop > start and end > first)
        for start, end in found["offset_mapping"]
    ]
    if not any(in_content):
        raise InputError(f"{name}: the chat template of {_name(tokenizer)} leaves nothing of the messages' contents")
    return ChatTokens(list(found["input_ids"]), in_content)


def check_template(tokenizer: Any, name: str | None = None) -> None:
    """Refuse a tokenizer that cannot make a prompt of messages; `name` is what the error calls it.

    Raises
    ------
    InputError
        With its name and the remedy.

    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{name or _name(tokenizer)} has no chat template: it continues texts and answers no messages; name a chat "
            "model, or pass plain text, without --chat (pplm generate)"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"the tokenizer {type(tokenizer).__name__} cannot report where its tokens begin, which messages need; take "
            "a model with a fast one"
        )


def turn_end_ids(tokenizer: Any) -> list[int]:
    """Return the ids that end an answer: the end of text, and the special token that the template puts behind one."""
    probe = [{"role": "user", "content": _FILLER.format(0)}, {"role": "assistant", "content": _FILLER.format(1)}]
    ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    try:
        rendered = tokenizer.apply_chat_template(probe, tokenize=False)
    except (jinja2.TemplateError, ValueError, TypeError):
        return ends  # the template refuses such a conversation
    behind = rendered.rpartition(_FILLER.format(1))[2].lstrip()
    first = tokenizer(behind, add_special_tokens=False)["input_ids"][:1]
    # Only a token made for that may end a turn: a line feed, or a plain-text template's "###", occurs in answers.
    own = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", {})}
    return ends + [token for token in first if token in own and token not in ends]


def _render(tokenizer: Any, messages: Sequence[Message], name: str) -> str:
    try:
        return tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, add_generation_prompt=True)
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: the chat template of {_name(tokenizer)} refuses the messages: {reason}") from error


def _content_spans(tokenizer: Any, messages: Sequence[Message], rendered: str, name: str) -> list[Span]:
    """Return where the messages' contents are in the rendered template, as (first, stop) characters."""
    contents = [message["content"] for message in messages]
    blank = [{**message, "content": _FILLER.format(number)} for number, message in enumerate(messages)]
    try:
        pieces = _FILLERS.split(_render(tokenizer, blank, name))  # alternately the template's text, a message's number
    except InputError:
        pieces = []  # the template depends on the contents
    spans = _between(pieces, contents, rendered)
    return _searched(contents, rendered, name) if spans is None else spans


def _between(pieces: Sequence[str], contents: Sequence[str], rendered: str) -> list[Span] | None:
    """Return the spans between the template's own pieces; None if these are not found in order."""
    if not pieces or not rendered.startswith(pieces[0]):
        return None
    spans, place = [], len(pieces[0])
    for number, behind in zip(pieces[1::2], pieces[2::2], strict=True):
        content = contents[int(number)]
        # As it is or, as many templates do, without the white space around it.
        as_is = (content, content.lstrip(), content.rstrip(), content.strip())
        written = next((text for text in as_is if rendered.startswith(text + behind, place)), None)
        if written is not None:
            first, stop = place, place + len(written)
            place = stop + len(behind)
        else:  # rewritten, as when a template leaves out an earlier answer's reasoning, or adds something beside it
            first, stop = place, rendered.find(behind, place) if behind else -1
            if stop < 0:
                return None
            place = stop + len(behind)
            inner = rendered.find(content.strip(), first, stop) if content.strip() else -1
            if inner >= 0:
                first, stop = inner, inner + len(content.strip())
        spans.append((first, stop))
    return spans if place == len(rendered) else None


def _searched(contents: Sequence[str], rendered: str, name: str) -> list[Span]:
    """Return the spans of those contents that occur one after the other; warn of each that does not."""
    spans, place = [], 0
    for number, content in enumerate(map(str.strip, contents)):
        first = rendered.find(content, place)
        if first >= 0:
            place = first + len(content)
            spans.append((first, place))
        else:
            warnings.warn(
                f"{name}, message {number}: the chat template rewrites it, so its tokens do not count in the mean "
                "hidden state that a discriminator reads",
                SteeringWarning,
                stacklevel=2,
            )
    return spans


def _name(tokenizer: Any) -> str:
    name = getattr(tokenizer, "name_or_path", "")
    return f"the tokenizer of {name}" if name else "the tokenizer"
