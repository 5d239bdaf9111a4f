"""Conversations as the command line takes them: --chat, --system and --messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pplm.cli.options import Command
from pplm.cli.outputs import FILE
from pplm.errors import InputError

if TYPE_CHECKING:
    from pplm.text.chat_template import Message


def _check_system(context: click.Context, option: click.Parameter, text: str | None) -> str | None:  # noqa: ARG001
    if text is not None:
        from pplm.text.encoding import check_text

        check_text("--system", text)
    return text


system_option = click.option(
    "--system", default=None, metavar="TEXT", callback=_check_system, help="System message of a conversation."
)


def conversation_options(command: Command) -> Command:
    """Add --chat, --system and --messages."""
    for option in (
        click.option("--messages", "messages_file", type=FILE, default=None, metavar="FILE.jsonl",
                     help="Answer the conversations in a file instead of PROMPT: each line is a JSON list of messages, "
                     '[{"role": "user", "content": "..."}].'),
        system_option,
        click.option("--chat", is_flag=True,
                     help="Answer PROMPT as a user's message, through the chat template of the model's tokenizer."),
    ):  # fmt: skip
        command = option(command)
    return command


def take_prompts(prompts: tuple[str, ...], options: dict[str, Any]) -> list[str] | list[list[Message]]:
    """Remove the options of conversations from a command's; return the prompts as texts, or as conversations."""
    chat, system = options.pop("chat"), options.pop("system")
    path: Path | None = options.pop("messages_file")
    if path is not None and prompts:
        raise InputError(f"--messages {path} holds the conversations; leave out {prompts[0]!r}")
    if path is None and not prompts:
        raise click.UsageError("Missing argument 'PROMPT...', --messages FILE.jsonl or --prompts-file FILE.")
    talks = chat or path is not None
    _check_options(system, talks=talks, no_bos=options["no_bos"])
    if not talks:
        return list(prompts)
    if chat:
        from pplm.text.encoding import check_text

        for prompt in prompts:
            check_text("PROMPT", prompt)
    conversations: list[list[Message]]
    conversations = _read(path) if path else [[{"role": "user", "content": prompt}] for prompt in prompts]
    if system is None:
        return conversations
    for number, messages in enumerate(conversations):
        if messages[0]["role"] == "system":
            raise InputError(f"--system: conversation {number + 1} of {path} has a system message; leave --system out")
    return [[{"role": "system", "content": system}, *messages] for messages in conversations]


def prompt_maker(options: dict[str, Any]) -> Callable[[Any], Any]:
    """Remove the options of conversations from a command's; return what turns a file's cell into a prompt."""
    chat, system, path = options.pop("chat"), options.pop("system"), options.pop("messages_file")
    if path is not None:
        raise InputError(f"--messages {path} holds conversations; leave it or --prompts-file out")
    _check_options(system, talks=chat, no_bos=options["no_bos"])
    if not chat:
        return lambda prompt: prompt
    before = [] if system is None else [{"role": "system", "content": system}]

    def converse(prompt: Any) -> Any:
        from pplm.text.encoding import check_text

        if isinstance(prompt, list):
            return [*before, *prompt]
        check_text("prompt", prompt)
        return [*before, {"role": "user", "content": prompt}]

    return converse


def _check_options(system: str | None, *, talks: bool, no_bos: bool) -> None:
    """Refuse --no-bos with conversations, and --system without any."""
    if talks and no_bos:
        raise InputError(
            "--no-bos does not go with a conversation, whose beginning the chat template sets; leave it out"
        )
    if system is not None and not talks:
        raise InputError(f"--system {system!r} is a message of a conversation; add --chat, or leave it out")


def _read(path: Path) -> list[list[Message]]:
    from pplm.chat import read_conversations

    return read_conversations(path)
