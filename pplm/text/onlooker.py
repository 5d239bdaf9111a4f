"""Watches a batch while it is decoded: hands each token to the caller, and keeps the details of each text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from torch import Tensor
from transformers.generation import BaseStreamer

from pplm.errors import InputError
from pplm.interface import AttributeModel, WeightedAttribute, weigh_attributes
from pplm.text.aims import named_levels
from pplm.text.details import LikelyToken, NewToken, TextDetails, TokenDetails
from pplm.text.gauge import Gauge, Measures, text_level
from pplm.text.pieces import Pieces, text_before
from pplm.text.prompts import Prompt
from pplm.text.steered_text import SteeredText

OnToken = Callable[[NewToken], bool | None]


@dataclass(frozen=True)
class Watching:
    """How a caller of `generate` watches the texts: its arguments `streamer`, `trace` and `on_token`.

    Raises
    ------
    InputError
        If `trace` or `on_token` is of the wrong type.

    """

    streamer: BaseStreamer | None = None
    trace: bool | Sequence[AttributeModel] = False
    on_token: OnToken | None = None

    def __post_init__(self) -> None:
        """Check `trace` and `on_token`."""
        if not isinstance(self.trace, bool) and (isinstance(self.trace, str) or not isinstance(self.trace, Sequence)):
            raise InputError(f"trace must be True, False or a list of attribute models; got {self.trace!r}")
        if self.on_token is not None and not callable(self.on_token):
            raise InputError(f"on_token must be a function of one NewToken; got {self.on_token!r}")

    def check_candidates(self, candidates: int) -> None:
        """Refuse a streamer or `on_token` if there are several candidates, because it would show those not kept.

        Raises
        ------
        InputError
            With the name of the argument.

        """
        for name, value in (("streamer", self.streamer), ("on_token", self.on_token)):
            if candidates > 1 and value is not None:
                raise InputError(f"{name} would show candidates that are not kept; leave out {name} or rerank")

    def measured(self, attributes: Sequence[WeightedAttribute]) -> tuple[WeightedAttribute, ...]:
        """Return the attributes whose levels are traced: those that steer, then the others that `trace` lists."""
        if isinstance(self.trace, bool):
            return tuple(attributes)
        steering = [attribute.model for attribute in attributes]
        named = [item for item in self.trace if not any(_model_of(item) is model for model in steering)]
        return weigh_attributes([*attributes, *named])

    def onlooker(
        self,
        tokenizer: Any,
        prompts: Sequence[Prompt],
        numbers: Sequence[tuple[int, int, int]],
        measured: Sequence[WeightedAttribute],
        *,
        steered: bool,
    ) -> Onlooker | None:
        """Return the onlooker of a batch; None if at most a streamer watches."""
        if self.trace is False and self.on_token is None:
            return None
        pairs = zip(prompts, numbers, strict=True)
        texts = [WatchedText(tokenizer, prompt, number, steered=steered) for prompt, number in pairs]
        return Onlooker(tokenizer, texts, measured=None if self.trace is False else measured, on_token=self.on_token)


def _model_of(item: Any) -> Any:
    return item.model if isinstance(item, WeightedAttribute) else item


class WatchedText:
    """One text while it is written: its pieces, and the details of its tokens.

    Parameters
    ----------
    tokenizer, prompt
        The text's tokenizer and prompt.
    number
        Its (prompt index, sample, candidate).
    steered
        Whether attribute models can move it.

    """

    def __init__(self, tokenizer: Any, prompt: Prompt, number: tuple[int, int, int], *, steered: bool) -> None:
        self._before = text_before(tokenizer, prompt)
        self._number, self._steered = number, steered
        self._measures: list[Measures] = []
        self._tokens: list[TokenDetails] = []
        self.pieces = Pieces(tokenizer, prompt)
        self.goes_on = True

    def add_details(self, seen: Measures, decode: Callable[[int], str], seconds: float) -> None:
        """Keep the measures of the token that was added last."""
        likeliest = [
            tuple(LikelyToken(token, decode(token), probability) for token, probability in own)
            for own in (seen.unsteered, seen.final)
        ]
        self._measures.append(seen)
        self._tokens.append(
            TokenDetails(
                token_id=self.pieces.token_ids[-1],
                text=self.pieces.texts[-1],
                words=(),
                kl=seen.kl,
                gm_scale=seen.gm_scale,
                step_length=seen.step_length,
                seconds=seconds,
                levels=seen.levels,
                unsteered=likeliest[0],
                final=likeliest[1],
            )
        )

    def new_token(
        self,
        attributes: Sequence[WeightedAttribute],
        levels: Mapping[str, float],
        idle: tuple[str, ...],
        *,
        finished: bool,
    ) -> NewToken:
        """Return the token that was added last, in the form that `on_token` gets."""
        details = self._with_words(attributes)[-1] if self._tokens else None
        return NewToken(
            prompt_index=self._number[0],
            sample=self._number[1],
            steered=self._steered,
            position=len(self.pieces.token_ids) - 1,
            token_id=self.pieces.token_ids[-1],
            text=self.pieces.texts[-1],
            finished=finished,
            levels=levels,
            idle=idle,
            details=details,
        )

    def details(self, attributes: Sequence[WeightedAttribute]) -> TextDetails:
        """Return the details of the whole text."""
        levels = {attribute.name: text_level(attribute, self._measures) for attribute in attributes}
        return TextDetails(tuple(self._with_words(attributes)), levels)

    def _with_words(self, attributes: Sequence[WeightedAttribute]) -> list[TokenDetails]:
        """Return the tokens so far, each with the names of the attributes that have a word which it is part of."""
        ids, texts = self.pieces.token_ids, self.pieces.texts
        finders = {own.name: getattr(own.model, "words_in", None) for own in attributes}
        found = {name: find(ids, texts, self._before) for name, find in finders.items() if find is not None}
        return [
            replace(token, words=tuple(name for name, marks in found.items() if marks[number]))
            for number, token in enumerate(self._tokens)
        ]


class Onlooker:
    """Watches one batch.

    Parameters
    ----------
    tokenizer, texts
        The batch's tokenizer, and its texts row by row.
    measured
        Attributes whose levels the details hold, bound to the language model; None keeps no details.
    on_token
        Called with every new token of every text; True ends the text.

    """

    def __init__(
        self,
        tokenizer: Any,
        texts: Sequence[WatchedText],
        *,
        measured: Sequence[WeightedAttribute] | None = None,
        on_token: OnToken | None = None,
    ) -> None:
        self._texts, self._on_token = texts, on_token
        self._gauge = None if measured is None else Gauge(measured)
        self._decode = lru_cache(maxsize=None)(lambda token: tokenizer.decode([token]))
        self._seen: dict[int, Measures] = {}
        self._levels: dict[int, Mapping[str, float]] = {}
        self._idle: Sequence[tuple[str, ...]] = ()
        self._begun = 0.0

    @property
    def measures(self) -> bool:
        """Whether it measures each token, for the details."""
        return self._gauge is not None

    def begin(self, text: SteeredText) -> None:
        """Start measuring: the first step begins."""
        if self._gauge is not None:
            text.measure_steps()
        self._begun = time.perf_counter()

    def look(self, text: SteeredText) -> None:
        """Measure what the next tokens are drawn from."""
        outcome = text.outcome()
        if self._gauge is not None:
            self._seen = self._gauge.measure(outcome)
        if self._on_token is not None and outcome.fused.levels is not None:
            names = [attribute.name for attribute in text.attributes]
            levels = [named_levels(names, own) for own in outcome.fused.levels.T.tolist()]
            self._levels = dict(zip(outcome.rows.tolist(), levels, strict=True))
        if self._on_token is not None:
            self._idle = text.idle

    def take(self, chosen: Tensor, going_on: Tensor) -> Tensor:
        """Take the tokens (B,) of a step and which texts could go on (B,), on the host; return which of these shall."""
        seconds = time.perf_counter() - self._begun
        going_on = going_on.clone()
        for row, (token, text) in enumerate(zip(chosen.tolist(), self._texts, strict=True)):
            if not text.goes_on:
                continue
            finished = not going_on[row]
            text.pieces.add(token, last=finished)
            if self._gauge is not None:
                text.add_details(self._seen[row], self._decode, seconds)
            if self._on_token is not None:
                attributes = () if self._gauge is None else self._gauge.attributes
                levels, idle = self._levels.get(row, {}), self._idle[row]
                if self._on_token(text.new_token(attributes, levels, idle, finished=finished)):
                    going_on[row] = 0
            text.goes_on = bool(going_on[row])
        self._begun = time.perf_counter()
        return going_on

    def completion(self, row: int) -> str:
        """Return the completion of a row, as far as it was shown."""
        return self._texts[row].pieces.shown

    def details(self, row: int) -> TextDetails | None:
        """Return the details of a row's whole text; None if none are kept."""
        return None if self._gauge is None else self._texts[row].details(self._gauge.attributes)
