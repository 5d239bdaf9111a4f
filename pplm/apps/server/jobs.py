"""A request on its way through the server: what it asks for, how its texts are made, what its client is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from attribute_models.naming import AttributeChoice
from pplm.apps.server.answers import Answer
from pplm.apps.server.errors import ApiError
from pplm.config import SteeringConfig
from pplm.interface import WeightedAttribute
from pplm.text.aims import missed_targets
from pplm.text.prompts import Prompt
from pplm.text.watch import idle_attributes


@dataclass(frozen=True)
class Way:
    """How texts are made; all texts of a batch are made in the same way.

    Attributes
    ----------
    choice
        Names of the attributes.
    steering
        The settings.
    chat
        Whether the texts are answers in conversations, which end where the template ends a turn.
    arguments
        How tokens are drawn.

    """

    choice: AttributeChoice
    steering: SteeringConfig
    chat: bool
    arguments: Mapping[str, Any]


@dataclass
class Row:
    """One text to be made.

    Attributes
    ----------
    prompt
        The prompt that it continues.
    seed, sample
        Its random numbers: those of this sample of prompt 0.
    max_tokens
        The most new tokens.
    answer
        The text so far.

    """

    prompt: Prompt
    seed: int
    sample: int
    max_tokens: int
    answer: Answer = field(default_factory=Answer)


@dataclass(frozen=True)
class Order:
    """What a request asks for, looked up and checked.

    Attributes
    ----------
    way, attributes
        How its texts are made, and the bound attribute models that are named there.
    rows
        Its texts.
    notices
        Warnings for the client.

    """

    way: Way
    attributes: Sequence[WeightedAttribute]
    rows: Sequence[Row]
    notices: Sequence[str] = ()


@dataclass(frozen=True)
class Piece:
    """What a token adds to one of a request's texts; `ends` marks the last piece of a text.

    `notices` are the request's warnings up to here: the worker may be ahead of what the client was sent.
    """

    index: int
    text: str
    ends: bool
    notices: Sequence[str] = ()


class Job:
    """A request that waits, is being answered, or whose client has left.

    The client's side runs in an event loop; the worker, in a thread of its own, sends it the pieces.

    Parameters
    ----------
    order
        What it asks for.
    deadline
        When its time is up, on the clock of `time.monotonic`.

    """

    def __init__(self, order: Order, deadline: float) -> None:
        self.way, self.attributes, self.rows, self.notices = order.way, order.attributes, order.rows, order.notices
        self.deadline = deadline
        self.left = False
        self.over = False
        self._events: asyncio.Queue[Piece | ApiError | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() > self.deadline

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompts, each counted once."""
        return sum(len(row.prompt.ids) for row in self.rows if row.sample == 0)

    @property
    def new_tokens(self) -> int:
        """Tokens of all its texts so far."""
        return sum(row.answer.tokens for row in self.rows)

    def show(self, row: int, text: str, heard: Sequence[str] = ()) -> None:
        """Send the client what one of its texts has gained, and the warnings so far; called by the worker."""
        ends = self.rows[row].answer.finish is not None
        over = all(own.answer.finish is not None for own in self.rows)
        if over:  # before the last piece, which carries the warnings
            answers = [own.answer for own in self.rows]
            missed = missed_targets(self.attributes, self.way.steering, [answer.levels for answer in answers])
            idle = idle_attributes(self.attributes, [answer.idle for answer in answers])
            self.notices = [*self.notices, *heard, *missed, *idle]
        if text or ends:
            self._tell(Piece(row, text, ends, self.notices))
        if over:
            self.end()

    def end(self, error: ApiError | None = None) -> None:
        """End the request, or let it fail with an error; only the first call counts."""
        if not self.over:
            self.over = True
            self._tell(error)

    async def next(self) -> Piece | None:
        """Return the next piece for the client; None at the end.

        Raises
        ------
        ApiError
            If the request failed.

        """
        event = await self._events.get()
        if isinstance(event, ApiError):
            raise event
        return event

    def _tell(self, event: Piece | ApiError | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
