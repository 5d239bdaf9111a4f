"""A conversation with a steered model, turn by turn, and the files that conversations are kept in.

For every answer the model reads the whole conversation again, so any setting may change between two turns.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from pplm.attached import steering_presets
from pplm.checks import check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError, SteeringWarning
from pplm.files.reading import parse_json, read_text
from pplm.generated_text import Generation
from pplm.generation import generate
from pplm.interface import AttributeModel, weigh_attributes
from pplm.presets import PresetName
from pplm.text.aims import wanted_levels
from pplm.text.chat_template import Message, check_messages, check_template, encode_messages, turn_end_ids
from pplm.text.encoding import check_text


class Conversation:
    """The messages so far, and the settings for the next answer.

    Parameters
    ----------
    model, tokenizer
        As `load_model` returns them; the tokenizer needs a chat template.
    attributes
        Attribute models, or (model, weight) pairs; may be replaced between turns.
    preset, settings
        The preset, and fields of `SteeringConfig` to set by hand, as in `SteeringConfig.for_attributes`.
    system
        The system message; None leaves it to the template.
    seed
        Turn i draws from the random stream of (seed, i), so asking the same questions in the same order gives the same
        answers. None draws from torch's global generator.
    **generate_arguments
        Everything else that `generate` takes: `max_new_tokens`, `do_sample`, `top_k`, ...

    Raises
    ------
    InputError
        If the tokenizer has no chat template, or the template refuses the system message.

    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
        preset: PresetName | None = None,
        settings: Mapping[str, Any] | None = None,
        system: str | None = None,
        seed: int | None = None,
        **generate_arguments: Any,
    ) -> None:
        check_template(tokenizer)
        self.model, self.tokenizer, self.attributes = model, tokenizer, attributes
        self.preset, self.settings, self.arguments = preset, dict(settings or {}), generate_arguments
        self.seed = None if seed is None else check_whole("seed", seed)
        self._turn = 0
        self._turns: list[dict[str, Any]] = []  # questions and answers
        self.system = system

    @property
    def system(self) -> str | None:
        """The system message; from the next answer on, a new one replaces it for the whole conversation."""
        return self._system

    @system.setter
    def system(self, content: str | None) -> None:
        if content is not None:  # a template without a place for it refuses it now
            check_text("system", content)
            probe = [{"role": "system", "content": content}, {"role": "user", "content": "-"}]
            encode_messages(self.tokenizer, probe, name="the system message")
        self._system = content

    @property
    def strength(self) -> float | None:
        """How strongly answers are steered (0 to 1, `SteeringConfig.strength`); None leaves that to the preset."""
        strength: float | None = self.settings.get("strength")
        return strength

    @strength.setter
    def strength(self, value: float | None) -> None:
        self._set("strength", value)

    @property
    def target(self) -> Mapping[str, float] | float | None:
        """The wanted level of an attribute, or levels by name (`SteeringConfig.target`); None for no target."""
        target: Mapping[str, float] | float | None = self.settings.get("target")
        return target

    @target.setter
    def target(self, value: Mapping[str, float] | float | None) -> None:
        if self.attributes:
            wanted_levels(value, weigh_attributes(self.attributes))
        self._set("target", value)

    def check_target(self, attributes: Sequence[Any]) -> None:
        """Refuse attributes that do not fit the target.

        Raises
        ------
        InputError
            With the attributes' names.

        """
        if attributes:
            wanted_levels(self.target, weigh_attributes(attributes))

    def _set(self, name: str, value: Any) -> None:
        settings = {own: old for own, old in self.settings.items() if own != name}
        settings |= {} if value is None else {name: value}
        SteeringConfig.for_attributes(self.attributes, preset=self.preset, **settings)  # refuses what does not fit
        self.settings = settings

    @property
    def steering(self) -> SteeringConfig:
        """The settings of the next answer."""
        presets = steering_presets(self.model)
        return SteeringConfig.for_attributes(self.attributes, presets=presets, preset=self.preset, **self.settings)

    @property
    def steers(self) -> bool:
        """Whether attribute models can steer the next answer."""
        return any(attribute.weight for attribute in weigh_attributes(self.attributes)) and self.steering.moves

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages so far, the system message first."""
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*first, *(dict(message) for message in self._turns)]

    def ask(self, question: str, **arguments: Any) -> Generation:
        """Return the answer to a user's message, and add both to the conversation.

        Parameters
        ----------
        question
            The message's content.
        **arguments
            Arguments of `generate` for this answer alone, such as a `streamer`.

        Raises
        ------
        InputError
            As for `generate`; the conversation then stays as it was.

        """
        asked = {"role": "user", "content": question}
        answer = self._answer([*self.messages, asked], self.attributes, **arguments)
        # A model may put white space around its answer; templates do not expect it in a message.
        self._turns += [asked, {"role": "assistant", "content": answer.completion.strip()}]
        self._turn += 1
        return answer

    def unsteered(self, **arguments: Any) -> Generation:
        """Return the unsteered answer to the last question, with the same random numbers; it is not kept.

        Raises
        ------
        InputError
            If nothing has been asked yet.

        """
        if not self._turns:
            raise InputError("there is no question yet; ask one first")
        return self._answer(self.messages[:-1], [], turn=self._turn - 1, **arguments)

    def reset(self) -> None:
        """Forget all questions and answers; the settings, the system message and the count of turns stay."""
        self._turns = []

    def save(self, path: str | Path) -> None:
        """Write the messages as one line of a new JSON lines file, which `read_conversations` reads.

        Raises
        ------
        InputError
            If there are none yet, or the file exists or cannot be written.

        """
        if not self._turns:
            raise InputError("there is nothing to save yet; ask something first")
        try:
            with Path(path).expanduser().open("x", encoding="utf-8") as file:
                file.write(json.dumps(self.messages, ensure_ascii=False) + "\n")
        except FileExistsError:
            raise InputError(f"{path} exists; name another file") from None
        except (OSError, ValueError) as error:  # a name with a null character is a wrong value
            raise InputError(f"{path!r} cannot be written: {getattr(error, 'strerror', None) or error}") from None

    def _answer(
        self, messages: Sequence[Message], attributes: Sequence[Any], *, turn: int | None = None, **arguments: Any
    ) -> Generation:
        number = self._turn if turn is None else turn
        (answer,) = generate(
            self.model,
            self.tokenizer,
            messages,
            attributes=attributes,
            steering=self.steering,
            seed=self.seed,
            prompt_indices=[number],
            **{**self.arguments, **arguments},
        )
        return answer


class AnswerStream(TextStreamer):
    """Passes an answer on while it is written, in whole words, without the token that ends it.

    Parameters
    ----------
    tokenizer
        The model's tokenizer.
    show
        Called with each piece; the pieces together are the answer, without white space before it.

    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, show: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._show, self._ends, self._begun = show, set(turn_end_ids(tokenizer)), False

    def put(self, value: Tensor) -> None:
        """Take the prompt, then one token at a time."""
        if self.next_tokens_are_prompt or int(value) not in self._ends:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        """Pass on text that can no longer change."""
        piece = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(piece)
        if piece:
            self._show(piece)


def read_conversations(path: Path) -> list[list[Message]]:
    """Read conversations to be answered from a JSON lines file: a list of messages per line.

    If one ends with the assistant's answer, as `Conversation.save` writes it, that answer is left out.

    Raises
    ------
    InputError
        With the line that holds no conversation, or if the file cannot be read.

    Warns
    -----
    SteeringWarning
        If an answer is left out.

    """
    conversations = []
    for number, line in enumerate(read_text("file", path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            messages = parse_json(line)
        except ValueError as error:
            raise InputError(f"{where} is not JSON ({error}); write one list of messages per line") from error
        if isinstance(messages, list) and len(messages) > 1 and _is_answer(messages[-1]):
            warnings.warn(
                f"{where} ends with the assistant's answer, which is left out and generated anew",
                SteeringWarning,
                stacklevel=2,
            )
            messages = messages[:-1]
        conversations.append(check_messages(where, messages))
    if not conversations:
        raise InputError(f"{path} holds no conversation; write one list of messages per line")
    return conversations


def _is_answer(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "assistant"
