"""Turns what a client sent into an order for the worker: looks up names, reads prompts, and checks everything."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attribute_models.naming import AttributeChoice, bind_named
from pplm.apps.doors.asked import Asked, name_asked, without_paths
from pplm.apps.doors.offers import Offers
from pplm.apps.server.answers import Answer
from pplm.apps.server.errors import refused
from pplm.apps.server.jobs import Order, Row, Way
from pplm.apps.server.limits import DEFAULT_TOKENS, Limits
from pplm.apps.server.notices import listening
from pplm.apps.server.schema import ChatRequest, CompletionRequest, TextRequest
from pplm.apps.server.writer import check_positions
from pplm.attached import steering_presets
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.interface import WeightedAttribute
from pplm.text.aims import wanted_levels
from pplm.text.prompts import Prompt, read_prompt

_KEPT = 64
"""How many choices of attributes are kept loaded for further requests that name the same."""


@dataclass(frozen=True)
class _Named:
    """Bound attribute models, and the warnings that came with them."""

    bound: Sequence[WeightedAttribute]
    notices: Sequence[str]


class Reception:
    """Reads requests for one language model; may be called from several threads.

    Parameters
    ----------
    name, model, tokenizer
        The language model, and what clients call it.
    offers
        What else clients may name.
    limits
        Of a request.

    Raises
    ------
    InputError
        If one of the offers cannot be used with this model.

    """

    def __init__(self, name: str, model: Any, tokenizer: Any, offers: Offers, limits: Limits) -> None:
        self._model, self._tokenizer, self._offers, self._limits = model, tokenizer, offers, limits
        self._kept: OrderedDict[AttributeChoice, _Named] = OrderedDict()
        self._one_at_a_time = threading.Lock()
        if name in offers.models:
            raise InputError(f"{name!r} is the model itself; choose another name for the steered one")
        self.models: Mapping[str, Mapping[str, Any] | None] = {name: None, **offers.models}
        for steered in offers.models:
            try:
                self._attributes(offers.asked(steered, None))
            except InputError as error:
                raise InputError(f"model {steered!r}: {error}") from error

    def read(self, request: CompletionRequest | ChatRequest) -> Order:
        """Return what a request asks for.

        Raises
        ------
        ApiError, InputError
            If it cannot be done.

        """
        if request.model not in self.models:
            served = ", ".join(self.models)
            raise refused(f"the model is not served here; choose one of {served}", "model", "model_not_found")
        if request.n > 1 and request.temperature == 0:
            raise refused(
                f"n={request.n} texts of temperature 0 would all be the same; leave out n or temperature", "n"
            )
        try:
            asked = self._offers.asked(request.model, request.steering)
            named, steering = self._attributes(asked)
        except InputError as error:
            raise refused(str(error), "steering", "invalid_value") from None
        chat = isinstance(request, ChatRequest)
        way = Way(asked.choice, steering, chat, request.arguments)
        with listening() as heard:
            prompts = self._prompts(request)
        texts = len(prompts) * request.n
        if texts > self._limits.max_samples:
            most = self._limits.max_samples
            raise refused(f"prompts times n may be at most {most} texts; got {texts}", "n", "invalid_value")
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        rows = [
            Row(prompt, seed, sample, self._length(request, prompt, way), Answer(request.stop, self._ends(prompt)))
            for prompt in prompts
            for sample in range(request.n)
        ]
        return Order(way, named.bound, rows, (*named.notices, *heard))

    def _attributes(self, asked: Asked) -> tuple[_Named, SteeringConfig]:
        """Return bound attribute models and the settings that steer by them."""
        with self._one_at_a_time:
            named = self._kept[asked.choice] = self._kept.get(asked.choice) or self._name(asked)
            self._kept.move_to_end(asked.choice)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        if not named.bound:
            return named, SteeringConfig()
        steering = asked.steering([one.model for one in named.bound], steering_presets(self._model))
        wanted_levels(steering.target, named.bound)  # refuses names of no attribute
        return named, steering

    def _name(self, asked: Asked) -> _Named:
        with listening() as heard:
            named = name_asked(asked, self._model, self._tokenizer, self._offers.known)
            try:
                return _Named(bind_named(named, self._model), heard)
            except InputError as error:
                raise InputError(without_paths(str(error), self._offers.known)) from None

    def _prompts(self, request: CompletionRequest | ChatRequest) -> list[Prompt]:
        if isinstance(request, CompletionRequest):
            if len(request.prompt) > self._limits.max_samples:
                raise refused(
                    f"prompt may hold at most {self._limits.max_samples} texts; send fewer", "prompt", "invalid_value"
                )
            return [self._prompt(prompt, "prompt") for prompt in request.prompt]
        if not getattr(self._tokenizer, "chat_template", None):
            raise refused(
                "this model has no chat template: it continues texts and answers no messages; use /v1/completions",
                "messages",
            )
        return [self._prompt([message.plain() for message in request.messages], "messages")]

    def _prompt(self, prompt: Any, param: str) -> Prompt:
        try:
            return read_prompt(self._model, self._tokenizer, prompt)
        except InputError as error:
            raise refused(str(error), param, "invalid_value") from None

    def _length(self, request: TextRequest, prompt: Prompt, way: Way) -> int:
        """Return the most new tokens of a text; for a chat without max_tokens, as many as fit and are allowed."""
        most, name, given = self._limits.max_tokens, "max_tokens", request.max_tokens
        if isinstance(request, ChatRequest) and given is None:
            name, given = "max_completion_tokens", request.max_completion_tokens
        if given is not None and given > most:
            raise refused(f"{name} may be at most {most} here; got {given}", name, "invalid_value")
        used = len(prompt.ids)
        if given is None:
            positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
            left = most if positions is None else positions - used - max(way.steering.horizon_length - 1, 0)
            given = max(1, min(left, most if way.chat else DEFAULT_TOKENS, most))
        try:
            check_positions(self._model, used, given, way)
        except InputError as error:
            raise refused(str(error), None, "context_length_exceeded") from None
        return given

    def _ends(self, prompt: Prompt) -> frozenset[int]:
        own = self._model.generation_config.eos_token_id
        return frozenset([*prompt.ends, *([] if own is None else own if isinstance(own, list) else [own])])
