"""What a job makes: some texts for each prompt, in one or more ways."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pplm.config import SteeringConfig
from pplm.generated_text import Generation
from pplm.interface import WeightedAttribute
from pplm.rerank import Rerank

Key = tuple[int, int]
"""(prompt number, position among its lines), both from 0; the one line of a failed prompt has position `FAILED`."""
FAILED = -1


@dataclass(frozen=True)
class Request:
    """A prompt and the settings of its own.

    Attributes
    ----------
    number
        Position in the input, from 0; with the seed and the sample it determines the random stream.
    prompt
        A text, or a conversation's messages; checked when its turn comes.
    texts
        Number of texts to make from it.
    seed
        A seed of its own; None takes the job's.
    own
        Key of the settings of its own (see `Job.ways`); only prompts with equal keys can share a batch.
    copied
        Fields that its lines hold besides the text's own.
    error
        Why it cannot be used; empty if no reason is known yet.

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
        """The keys of its texts, in order."""
        return [(self.number, position) for position in range(self.texts)]


@dataclass(frozen=True)
class Way:
    """How `samples` of a prompt's texts are made."""

    samples: int
    attributes: Sequence[WeightedAttribute] = ()
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    rerank: Rerank | None = None

    @property
    def drawn(self) -> int:
        """Texts to generate per prompt: with `rerank` several candidates for each text."""
        return self.samples * (1 if self.rerank is None else self.rerank.candidates)


@dataclass(frozen=True)
class Failed:
    """A prompt that could not be used, and why."""

    request: Request
    error: str


@dataclass(frozen=True)
class Made:
    """A text, the prompt it was made for, and how it was made."""

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
        Takes `Request.own` and returns how the prompt's texts are made, in the order of their lines; raises an
        `InputError` if those settings cannot be used.
    drawn
        Texts to generate per prompt, for each way.
    seed
        Seed of prompts without one of their own; None draws from torch's global generator.
    batch_size
        Texts generated at once (>= 1).
    arguments
        Further arguments of `generate`.

    """

    model: Any
    tokenizer: Any
    ways: Callable[[Any], Sequence[Way]]
    drawn: Sequence[int]
    seed: int | None
    batch_size: int
    arguments: Mapping[str, Any]
