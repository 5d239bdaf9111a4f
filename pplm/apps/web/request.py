"""What a visitor asks of the page: all its settings in one object that validates itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from pplm.apps.doors.asked import LONGEST_WORD, Asked, read_asked
from pplm.checks import check_range, check_type, check_whole
from pplm.errors import InputError

LONGEST_PROMPT = 2000
"""Characters of the prompt and of the system message."""
MOST_MESSAGES, LONGEST_CONVERSATION = 32, 8000
"""Messages and answers before the prompt, and the characters of all of them."""
MOST_SEEDS = 8
"""Words that one bag is grown from."""
MOST_SAMPLES, MOST_TOKENS, LARGEST_SEED = 4, 200, 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """Everything that a text of the page depends on, but for the model.

    Attributes
    ----------
    prompt
        What is continued, or with `chat` the message that is answered; 1 to 2000 characters.
    chat, system
        Whether the model's chat template makes the prompt, and the system message then; "" for none.
    conversation
        What a chat goes on from: a message, the model's answer to it, and so on; none at its beginning.
    bags, avoid_bags, heads
        Names of word lists to steer towards and away from, and `NAME:LABEL` of heads.
    words, avoid_words
        Words and phrases themselves, without commas.
    seeds
        Words that a bag is grown from; none for no such bag.
    strength
        0 (unsteered) to 1; see `SteeringConfig`.
    samples, length, seed
        How many texts (1 to 4), the new tokens of each (1 to 200), and the seed of their random numbers.

    Raises
    ------
    InputError
        If a value is of the wrong type, outside its range, too long, or holds a control character.

    """

    prompt: str = "The lake"
    chat: bool = False
    system: str = ""
    conversation: tuple[str, ...] = ()
    bags: tuple[str, ...] = ()
    avoid_bags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    avoid_words: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    strength: float = 0.5
    samples: int = 1
    seed: int = 0
    length: int = 50

    def __post_init__(self) -> None:
        """Check every field."""
        _check_text("prompt", self.prompt, LONGEST_PROMPT)
        _check_text("system message", self.system, LONGEST_PROMPT)
        if not self.prompt.strip():
            raise InputError("the prompt is empty; write how the text is to begin")
        if self.system and not self.chat:
            raise InputError("a system message belongs to a chat; turn chat on, or leave it out")
        if self.conversation and not self.chat:
            raise InputError("a conversation belongs to a chat; turn chat on, or leave it out")
        check_conversation(self.conversation)
        check_type("chat", self.chat, bool)
        object.__setattr__(self, "strength", check_type("strength", self.strength, float))
        check_range("strength", self.strength, 0, 1)
        for name, low, high in (("samples", 1, MOST_SAMPLES), ("length", 1, MOST_TOKENS), ("seed", 0, LARGEST_SEED)):
            value = check_whole(name, getattr(self, name), low)
            if value > high:
                raise InputError(f"{name} must be at most {high} here; got {value}")
            object.__setattr__(self, name, value)
        for name in ("bags", "avoid_bags", "words", "avoid_words", "seeds", "heads"):
            self._check_names(name)
        self.asked()

    def _check_names(self, name: str) -> None:
        for text in getattr(self, name):
            _check_text(f"each of {name.replace('_', ' ')}", text, LONGEST_WORD)
            if name in ("words", "avoid_words", "seeds") and (text,) != split_words(text):
                raise InputError(
                    f"each of {name.replace('_', ' ')} must be a word or phrase without comma; got {text!r}"
                )
        if len(self.seeds) > MOST_SEEDS:
            raise InputError(f"a bag is grown from at most {MOST_SEEDS} words here; got {len(self.seeds)}")

    @property
    def names_any(self) -> bool:
        """Whether it steers towards or away from anything."""
        return any((self.bags, self.avoid_bags, self.words, self.avoid_words, self.seeds, self.heads))

    def asked(self) -> Asked:
        """Return the steering that is asked for, in the form that the server and the page share.

        Raises
        ------
        InputError
            If there are too many names or words, or they are too long.

        """
        if not self.names_any:
            return Asked()
        given = {"bags": self.bags, "avoid_bags": self.avoid_bags, "words": self.words,
                 "avoid_words": self.avoid_words, "discriminators": self.heads}  # fmt: skip
        asked = read_asked(given, "the page's steering")
        grown = (",".join(self.seeds),) if self.seeds else ()
        return replace(asked, choice=replace(asked.choice, bag_from=grown), settings={"strength": self.strength})

    def messages(self) -> list[dict[str, str]]:
        """Return the messages of a chat, the prompt last."""
        before = [{"role": "system", "content": self.system}] if self.system else []
        said = zip(cycle(("user", "assistant")), (*self.conversation, self.prompt), strict=False)
        return [*before, *({"role": role, "content": text} for role, text in said)]

    def continued(self, answer: str) -> tuple[str, ...]:
        """Return the conversation with the prompt and an answer to it at its end.

        Raises
        ------
        InputError
            If it is then longer than a conversation may be.

        """
        # A model may put white space around its answer, which templates do not expect in a message.
        return check_conversation((*self.conversation, self.prompt, answer.strip()))


def check_conversation(said: Any) -> tuple[str, ...]:
    """Return a conversation that a chat can go on from.

    Raises
    ------
    InputError
        If it is not a list of messages, each with its answer, or too long.

    """
    if not isinstance(said, list | tuple) or len(said) % 2:
        raise InputError("a conversation must be a list of messages, each followed by its answer")
    for message, answer in zip(said[::2], said[1::2], strict=True):
        _check_text("each message of a conversation", message, LONGEST_PROMPT)
        _check_text("each answer of a conversation", answer, LONGEST_CONVERSATION, refused=("Cs",))
        if not message.strip():
            raise InputError("a message of the conversation is empty; take it out, with its answer")
    length = sum(map(len, said))
    if len(said) > MOST_MESSAGES or length > LONGEST_CONVERSATION:
        raise InputError(
            f"a conversation may have at most {MOST_MESSAGES} messages and answers, of {LONGEST_CONVERSATION} "
            f"characters in all; this one has {len(said)} of {length}; begin a new one"
        )
    return tuple(said)


def check_offered(request: PageRequest, bags: Collection[str], heads: Collection[str], *, chat: bool) -> PageRequest:
    """Return a request if all that it names is offered.

    Raises
    ------
    InputError
        If a name is not; the message holds the first such name, and those that are.

    """
    for what, names, offered in (
        ("bag", request.bags, bags),
        ("bag", request.avoid_bags, bags),
        ("head", request.heads, heads),
    ):
        for name in names:
            if name not in offered:
                choices = ", ".join(sorted(offered)) or "none"
                raise InputError(f"{what} {name!r} is not offered here; choose one of {choices}")
    if request.chat and not chat:
        raise InputError("this model has no chat template; turn chat off")
    return request


def split_words(text: str) -> tuple[str, ...]:
    """Return the words and phrases of a text with commas or new lines between, each once."""
    words = (word.strip() for word in text.replace("\n", ",").split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def _check_text(what: str, text: str, longest: int, refused: Collection[str] = ("Cc", "Cs")) -> None:
    """Refuse what is not text, is too long, or would act on a terminal that a command is pasted into.

    Answers, which a command holds as JSON, may have control characters (Cc), as models write them.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} must be text; got {type(text).__name__}")
    if len(text) > longest:
        raise InputError(f"{what} may have at most {longest} characters; this one has {len(text)}")
    for character in text:
        if character != "\n" and unicodedata.category(character) in refused:
            kind = "half a character" if unicodedata.category(character) == "Cs" else "the control character"
            raise InputError(f"{what} holds {kind}, {character!r}; take it out")
