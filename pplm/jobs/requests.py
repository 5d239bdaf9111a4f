"""What a job makes: of each prompt some texts, in one or more ways."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pplm.config import SteeringConfig
from pplm.generated_text import Generation
from pplm.interface import WeightedAttribute
from pplm.rerank import Rerank

Key = tuple[int, int]
"""(prompt number, which of its lines from 0); `FAILED` stands for the one line of a prompt that failed."""
FAILED = -1


@dataclass(frozen=True)
class Request:
    """A prompt and what is its own.

    Attributes
    ----------
    number
        Which prompt of the input, from 0; with the seed and the sample it names the random stream.
    prompt
        A text, or a conversation's messages; checked when its turn comes.
    texts
        Texts that are made of it.
    seed
        Its own; None takes the job's.
    own
        Names the settings of its own (`Job.ways`); prompts with equal ones share batches.
    copied
        What its lines hold beside the text's own fields.
    error
        Why nothing can be made of it; empty if there is no reason yet.

    """

    number: int
    prompt: Any
    texts: int
    seed: int | None = None
    own: Hashable = None
    copied: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def keys(self) -> list[Key]:
        """The names of its texts, in order."""
        return [(self.number, position) for position in range(self.texts)]


@dataclass(frozen=True)
class Way:
    """How some of a prompt's texts are made."""

    samples: int
    attributes: Sequence[WeightedAttribute] = ()
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    rerank: Rerank | None = None

    @property
    def drawn(self) -> int:
        """Texts that are generated for one prompt."""
        return self.samples * (1 if self.rerank is None else self.rerank.candidates)


@dataclass(frozen=True)
class Failed:
    """A prompt of which nothing could be made, and why."""

    request: Request
    error: str


@dataclass(frozen=True)
class Made:
    """A text, whose it is, and the way it was made."""

    request: Request
    text: Generation
    way: Way

    @property
    def steers(self) -> bool:
        """Whether it was made with attribute models."""
        return bool(self.way.attributes)


@dataclass(frozen=True)
class Job:
    """What all prompts of a job share.

    Attributes
    ----------
    model, tokenizer
        As in `generate`.
    ways
        Returns, for `Request.own`, how its texts are made, in the order of their lines; raises an `InputError` if that
        cannot be.
    drawn
        Texts that are drawn for one prompt in each way.
    seed
        Of prompts without one of their own; None draws from torch's global generator.
    batch_size
        Texts generated at once (>= 1).
    arguments
        What else `generate` takes.

    """

    model: Any
    tokenizer: Any
    ways: Callable[[Any], Sequence[Way]]
    drawn: Sequence[int]
    seed: int | None
    batch_size: int
    arguments: Mapping[str, Any]
