"""What steering did to each token of a text, in numbers to look at: `generate(..., trace=True)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pplm.notebook import traced_html

_ANYONE = {"prompt_index": 0, "sample": 0, "seed": None}
"""A text's details do not hold which of a call's texts it is, so it is shown as the first."""


@dataclass(frozen=True)
class TokenLevel:
    """An attribute's level in what one token could have been drawn from, and in what it was drawn from.

    A level is a probability: for a bag, that the next token is a credited one of its words; for a head, of its class
    given the text so far and the next token that the distribution expects. For an attribute to avoid it is the level of
    what is avoided.

    Attributes
    ----------
    unsteered, final
        In the unsteered distribution, and in the final one, after the geometric mean and before temperature and top-k.

    """

    unsteered: float
    final: float

    @property
    def gain(self) -> float:
        """`final` - `unsteered`."""
        return self.final - self.unsteered

    def record(self) -> dict[str, float]:
        """Return the three numbers, for JSON."""
        return {"unsteered": self.unsteered, "final": self.final, "gain": self.gain}


@dataclass(frozen=True)
class LikelyToken:
    """One of a distribution's likeliest tokens; `text` is what it decodes to alone."""

    token_id: int
    text: str
    probability: float

    def record(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class TokenDetails:
    """One new token and what steering did to it.

    Attributes
    ----------
    token_id, text
        The token, and what it adds to the completion: "" while a character is incomplete.
    words
        Names of the bags that have a word which this token is part of.
    kl
        KL(final distribution || unsteered one), in nats, as in `Generation.final_kl`.
    gm_scale
        The steered distribution's share in the geometric mean; 0 where nothing is steered.
    step_length
        Euclidean norm of the whole movement that this token's steps made in the history; None if the text was not
        steered at this token.
    seconds
        Duration of the decoding step, which gave every text of the batch a token.
    levels
        By attribute name; None for an attribute model whose loss is not -log of a probability.
    unsteered, final
        The five likeliest tokens of each distribution.

    """

    token_id: int
    text: str
    words: tuple[str, ...]
    kl: float
    gm_scale: float
    step_length: float | None
    seconds: float
    levels: Mapping[str, TokenLevel | None] = field(repr=False)
    unsteered: tuple[LikelyToken, ...] = field(repr=False)
    final: tuple[LikelyToken, ...] = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Return the token as it is in a trace's JSON."""
        likeliest = {"unsteered": self.unsteered, "final": self.final}
        plain = ("token_id", "text", "kl", "gm_scale", "step_length", "seconds")
        return {
            **{name: getattr(self, name) for name in plain},
            "words": list(self.words),
            "levels": {name: level and level.record() for name, level in self.levels.items()},
            "likeliest": {name: [token.record() for token in tokens] for name, tokens in likeliest.items()},
        }


@dataclass(frozen=True)
class TextDetails:
    """The tokens of one text, and each attribute's level in it.

    Attributes
    ----------
    tokens
        One entry per id of `Generation.token_ids`; their texts joined are the completion.
    levels
        As `Generation.levels`, but also without the dial: for a bag the mean over the tokens, for a head the class
        probability of the text before the last token; None if any token's level is None.

    """

    tokens: tuple[TokenDetails, ...] = field(repr=False)
    levels: Mapping[str, float | None]

    def record(self) -> dict[str, Any]:
        """Return the text's levels and tokens as they are in a trace's JSON."""
        return {"levels": dict(self.levels), "tokens": [token.record() for token in self.tokens]}

    def _repr_html_(self) -> str:
        """Return the tokens, shaded by what steering did to them, for a notebook."""
        completion = "".join(token.text for token in self.tokens)
        steered = any(token.step_length is not None for token in self.tokens)
        text = {"text": completion, "completion": completion, "steered": steered, **_ANYONE, **self.record()}
        return traced_html(text, self.levels)


@dataclass(frozen=True)
class NewToken:
    """What `on_token` is called with: one new token of one text.

    Attributes
    ----------
    prompt_index, sample
        Which text it belongs to, as in `Generation`.
    steered
        Whether attribute models can move this text.
    position
        Number of the token among the text's new ones, from 0. If memory runs out, the texts of a batch are generated
        again in smaller batches, and their positions start at 0 again.
    token_id, text
        The token, and what it adds to the completion: "" while a character is incomplete. Joined, the pieces of a text
        are `Generation.completion`.
    finished
        Whether the text ends with this token by itself. (False if `on_token` ends it now.)
    levels
        With the dial: the level of each attribute in the text so far, if it has one; else empty. At the last token
        they are `Generation.levels`.
    idle
        Names of the attributes that could not act at any token of the text so far, and so have not steered it.
    details
        With `trace`, else None. For a word of several tokens, `words` names the bag only from the token that completes
        the word; in `Generation.details` it does so at all tokens of the word.

    """

    prompt_index: int
    sample: int
    steered: bool
    position: int
    token_id: int
    text: str
    finished: bool
    levels: Mapping[str, float] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    details: TokenDetails | None = field(default=None, repr=False)
