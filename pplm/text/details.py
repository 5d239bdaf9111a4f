"""What steering did to each token of a text, in numbers to look at: `generate(..., trace=True)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pplm.notebook import traced_html

_ANYONE = {"prompt_index": 0, "sample": 0, "seed": None}
"""Which of a call's texts it is, is not part of a text's details."""


@dataclass(frozen=True)
class TokenLevel:
    """An attribute's level in what one token could have been drawn from, and in what it was drawn from.

    A level is a probability: for a bag, that the next token is a credited one of its words; for a head, of its class
    for the text so far and the token to come, as the distribution expects it. Of what is avoided it is that one's.

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
    """One of a distribution's likeliest tokens, as it decodes alone."""

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
        Names of the bags of which it is part of a word.
    kl
        KL(final distribution || unsteered one), in nats; `Generation.final_kl`.
    gm_scale
        The steered distribution's share in the geometric mean; 0 where nothing is steered.
    step_length
        Euclidean norm of the whole movement that this token's steps made in the history; None where they made none.
    seconds
        Of the step that gave each text of the batch a token.
    levels
        By attribute; None for an attribute model whose loss is not -log of a probability.
    unsteered, final
        The five likeliest tokens of either distribution.

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
        """Return the token as a trace's JSON has it."""
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
        As `Generation.levels`, also without the dial: a bag's mean over the tokens, a head's class probability of the
        text before the last token; None where a token's is None.

    """

    tokens: tuple[TokenDetails, ...] = field(repr=False)
    levels: Mapping[str, float | None]

    def record(self) -> dict[str, Any]:
        """Return the text's levels and tokens as a trace's JSON has them."""
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
        Of which text, as in `Generation`.
    steered
        Whether attribute models can move this text.
    position
        Which of the text's new tokens, from 0. Where memory ran out, the texts of a batch are generated again in
        smaller ones, and their positions start at 0 again.
    token_id, text
        The token, and what it adds to the completion: "" while a character is incomplete. Joined, the pieces of a text
        are `Generation.completion`.
    finished
        Whether the text ends with this token, unless `on_token` ends it now.
    levels
        Of the attributes that have one in the text so far, with the dial; empty without. Those of the last token are
        `Generation.levels`.
    idle
        Names of the attributes that could not act at any token of the text so far, and so have not steered it.
    details
        With `trace`. Of a word of several tokens, `words` names its bag only from the token on that completes it; in
        `Generation.details` all of its tokens do.

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
