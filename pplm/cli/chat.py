"""`pplm chat`: a conversation in the terminal, or line by line through a pipe."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attribute_models.naming import bag_words
from pplm.cli.attributes import AttributeOptions, attribute_options, load_attributes, take_choice
from pplm.cli.conversations import system_option
from pplm.cli.options import check_seed, model_options_with, number, text_options, text_sampling
from pplm.cli.outputs import check_outputs
from pplm.cli.screen import coloured, screen
from pplm.cli.steering_options import given_steering, parse_targets, steering_line, steering_options
from pplm.config import SteeringConfig
from pplm.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from pplm.chat import Conversation
    from pplm.generated_text import Generation

_HELP = """\
/bag NAME...|none                 steer towards bags of words, instead of those so far
/avoid NAME...|none               steer away from bags of words
/discriminator PATH:LABEL...|none steer towards classes of trained heads
/strength X|none                  steer with strength X (0 to 1; 0.5 is usual); none: by the other settings
/target [NAME=]LEVEL...|none      steer to this level of an attribute and no further
/compare                          turn on or off: show the unsteered answer too
/system TEXT|none                 set the system message
/save FILE                        write the messages to a new file, for pplm generate --messages
/reset                            forget the conversation, keep the settings
/help, /quit                      show this list; end the chat (or Ctrl-D). Ctrl-C stops an answer."""
_KINDS = {"bag": ("bags", "bag_from", "words"), "avoid": ("avoid_bags", "avoid_words"),
          "discriminator": ("discriminators",)}  # fmt: skip
"""Commands that choose attribute models, and the fields of `AttributeOptions` that each replaces."""


@click.command("chat")
@system_option
@attribute_options
@model_options_with("smollm2")  # the embedded model has no chat template
@text_options(max_new_tokens=150)
@click.option(
    "--seed",
    type=int,
    default=None,
    help="The same seed and messages give the same answers.  [default: a new one, shown on stderr]",
)
@steering_options
def chat_command(model_name: str, device: str, dtype: Any, quantize: Any, **options: Any) -> None:
    """Talk with a chat model whose answers lean towards an attribute.

    Type a message and read the answer while it is written, the bags' words in colour. Lines that begin with a slash
    are commands; /help lists them. In a pipe, each line of stdin is a message or a command, and stdout holds only the
    answers. The model needs a chat template.
    """
    from pplm.chat import Conversation
    from pplm.models.loading import load_model
    from pplm.text.chat_template import check_template

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("a chat runs in one process; leave accelerate launch out")
    choice = take_choice(options)
    check_seed(options["seed"])
    given = given_steering(options)
    sampling = text_sampling(options)
    check_outputs({"--save-bag": choice.save_bag}, overwrite=False)
    model, tokenizer = load_model(model_name, device=device, dtype=dtype, quantize=quantize)
    check_template(tokenizer, f"--model {model_name}")
    said: set[str] = set()
    attributes = load_attributes(choice, model, tokenizer, said=said)
    seed = secrets.randbelow(2**31) if options["seed"] is None else options["seed"]
    conversation = Conversation(
        model,
        tokenizer,
        attributes=attributes,
        preset=given.pop("preset"),
        settings=given,
        system=options["system"],
        seed=seed,
        **sampling,
    )
    chat = _Chat(conversation, replace(choice, save_bag=None), bag_words(attributes), said)
    chat.run(announce_seed=options["seed"] is None)


class _Chat:
    """A conversation in a terminal: its attributes as the user named them, and which notes were already shown."""

    def __init__(self, conversation: Conversation, choice: AttributeOptions, words: set[str], said: set[str]) -> None:
        self.conversation, self.choice, self.words, self.said = conversation, choice, words, said
        self.steering_said = ""
        self.compares = False
        self.screen = screen()
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()

    def run(self, *, announce_seed: bool) -> None:
        """Read messages and commands until there are no more."""
        self._report_steering()
        if announce_seed:
            _note(f"seed {self.conversation.seed}")
        if self.interactive:
            _note("/help lists the commands, Ctrl-D ends")
        for line in self._lines():
            name, _, argument = line.partition(" ")
            if name == "/quit":
                break
            try:
                if line.startswith("/"):
                    self._obey(name[1:], argument.strip())
                elif line:
                    self._answer(line)
            except InputError as error:
                _note(f"Error: {' '.join(str(error).split())}")

    def _lines(self) -> Iterator[str]:
        """Yield what the user types, or the lines of stdin."""
        if not self.interactive:
            if hasattr(sys.stdin, "reconfigure"):
                sys.stdin.reconfigure(errors="surrogateescape")  # refused line by line, not with a traceback
            yield from map(str.strip, sys.stdin)
            return
        with suppress(ImportError):
            import readline  # noqa: F401 - input() edits lines with it
        while True:
            try:
                yield input("> ").strip()
            except EOFError:
                self.screen.print()
                return
            except KeyboardInterrupt:
                self.screen.print()

    def _answer(self, question: str) -> None:
        conversation = self.conversation
        compares = self.compares and conversation.steers
        try:
            self._show(partial(conversation.ask, question), "steered" if compares else "")
            if compares:
                self._show(conversation.unsteered, "unsteered")
        except KeyboardInterrupt:
            if not self.interactive:
                raise
            self.screen.print()

    def _show(self, answer: Callable[..., Generation], label: str) -> None:
        """Write an answer, after its label, while it is generated."""
        from pplm.chat import AnswerStream

        def write(piece: str) -> None:
            self.screen.print(coloured(piece, self.words), end="")

        if label:
            self.screen.print(f"[{label}] ", style="bold", markup=False, end="")
        stream = AnswerStream(self.conversation.tokenizer, write)
        with _stopping_at_interrupt(self.interactive) as stop:
            answer(streamer=stream, stopping_criteria=[stop])
        self.screen.print()

    def _obey(self, name: str, argument: str) -> None:
        """Carry out a command."""
        commands: dict[str, Callable[[str], None]] = {
            "strength": self._set_strength, "target": self._set_target, "compare": self._toggle_compare,
            "system": self._set_system,
            "save": self._save, "reset": self._reset, "help": lambda _: _note(_HELP),
            **{kind: partial(self._choose, kind) for kind in _KINDS},
        }  # fmt: skip
        if name not in commands:
            raise InputError(f"there is no command /{name}; /help lists them")
        commands[name](argument)

    def _choose(self, kind: str, argument: str) -> None:
        """Replace the attribute models of a kind; without an argument, show them."""
        conversation = self.conversation
        if argument:
            names: Any = () if argument == "none" else tuple(_split(argument))
            choice = replace(self.choice, **dict(zip(_KINDS[kind], (names, (), ()), strict=False)))
            attributes = load_attributes(choice, conversation.model, conversation.tokenizer, said=self.said)
            conversation.check_target(attributes)
            conversation.attributes, self.choice, self.words = attributes, choice, bag_words(attributes)
        named = [name for field in _KINDS[kind] for name in getattr(self.choice, field)]
        _note(f"{kind}: {' '.join(named) or 'none'}")
        if argument:
            self._report_steering()

    def _set_strength(self, argument: str) -> None:
        if argument:
            self.conversation.strength = None if argument == "none" else _number(argument)
        strength = self.conversation.strength
        _note(f"strength: {'none; the other settings steer' if strength is None else f'{strength:g}'}")
        if argument:
            self._report_steering()

    def _set_target(self, argument: str) -> None:
        if argument:
            self.conversation.target = None if argument == "none" else parse_targets(_split(argument), "/target")
        target = self.conversation.target
        named = target.items() if isinstance(target, dict) else [] if target is None else [("", target)]
        _note(f"target: {' '.join(f'{name}={level}' if name else f'{level}' for name, level in named) or 'none'}")
        if argument:
            self._report_steering()

    def _toggle_compare(self, argument: str) -> None:
        if argument:
            raise InputError(f"/compare takes nothing after it; got {argument!r}")
        self.compares = not self.compares
        idle = "" if self.conversation.steers else ", but nothing steers"
        _note(f"compare: {'on' + idle if self.compares else 'off'}")

    def _set_system(self, argument: str) -> None:
        if argument:
            self.conversation.system = None if argument == "none" else argument
        _note(f"system: {self.conversation.system or 'none'}")

    def _save(self, argument: str) -> None:
        if not argument:
            raise InputError("/save needs a file's name")
        self.conversation.save(argument)
        _note(f"saved {len(self.conversation.messages)} messages to {argument}")

    def _reset(self, argument: str) -> None:
        if argument:
            raise InputError(f"/reset takes nothing after it; got {argument!r}")
        self.conversation.reset()
        _note("the conversation begins anew")

    def _report_steering(self) -> None:
        from pplm.attached import steering_presets

        conversation = self.conversation
        if not conversation.attributes:
            _note("no attribute given (--bag, --discriminator, /bag, ...): the answers are unsteered")
            return
        presets, settings = steering_presets(conversation.model), conversation.settings
        preset = SteeringConfig.preset_for(conversation.attributes, presets, conversation.preset, **settings)
        line = steering_line(conversation.steering, preset, settings)
        if line != self.steering_said:
            _note(line)
            self.steering_said = line
        if not conversation.steers:
            _note(f"nothing steers: {conversation.steering.why_still or 'every weight'} is 0")


@contextmanager
def _stopping_at_interrupt(interactive: bool) -> Iterator[Callable[..., Tensor]]:
    """Yield a stopping criterion that ends an answer after Ctrl-C; a second Ctrl-C interrupts at once."""
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True

    def criterion(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG001
        import torch

        return input_ids.new_full((len(input_ids),), stopped, dtype=torch.bool)

    before = signal.signal(signal.SIGINT, stop) if interactive else None
    try:
        yield criterion
    finally:
        if interactive:
            signal.signal(signal.SIGINT, before)


def _number(argument: str) -> float:
    try:
        return number(argument)
    except ValueError:
        raise InputError(f"/strength takes a number, such as 0.5; got {argument!r}") from None


def _split(argument: str) -> list[str]:
    try:
        return shlex.split(argument)
    except ValueError as error:
        raise InputError(f"{argument!r} cannot be read ({error}); close the quotes") from None


def _note(text: str) -> None:
    click.echo(text, err=True)
