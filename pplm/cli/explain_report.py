"""An explanation on a terminal: the cause, what to change, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pplm.cli.screen import coloured

if TYPE_CHECKING:
    from pplm.explanation.causes import Cause
    from pplm.explanation.explaining import Explanation
    from pplm.explanation.facts import AttributeFacts, TextFacts, WordFacts

_ROWS = 8
"""How many words and tokens the tables show; --json has all of them."""
_INDENT = (0, 0, 0, 2)


def show_explanation(console: Console, found: Explanation) -> None:
    """Print an explanation, without trailing spaces, which tables would leave."""
    with console.capture() as shown:
        _show(console, found)
    click.echo("\n".join(line.rstrip() for line in shown.get().splitlines()))


def _show(console: Console, found: Explanation) -> None:
    facts, text = found.facts, found.facts.text
    words = {part for own in facts.attributes for word in own.words for part in word.word.lower().split()}
    written = text.text if text.messages is None else text.completion
    label = Text(f"[{'steered' if text.steered else 'unsteered'} {text.sample + 1}] ", style="bold")
    console.print(label + coloured(" ".join(written.split()), words))
    for cause in found.causes:
        _show_cause(console, cause)
    _heading(console, "What steering did")
    _show_steps(console, facts)
    for own in facts.attributes:
        _show_attribute(console, facts, own)
    _show_tokens(console, facts)


def _show_cause(console: Console, cause: Cause) -> None:
    console.print()
    console.print(Text(cause.title, style="bold yellow" if cause.remedy else "bold green"))
    _line(console, cause.what + ".")
    if cause.remedy:
        _line(console, Text("What to change: ", style="bold") + Text(cause.remedy + "."))


def _show_steps(console: Console, facts: TextFacts) -> None:
    count, table = len(facts.tokens), Table.grid(padding=(0, 2))
    table.add_row("tokens steered", f"{facts.moved} of {count}")
    falls = [token.loss_fall for token in facts.tokens if token.loss_fall is not None]
    if falls:
        table.add_row("steps", f"lowered the loss by {_mean(falls):.2g} nats per token")
    if lengths := [token.step_length for token in facts.tokens if token.step_length is not None]:
        table.add_row("", f"moved the history by {_mean(lengths):.2g} per token (norm), {max(lengths):.2g} at most")
    if reach := [token.kl for token in facts.tokens if token.kl is not None]:
        table.add_row("steered distribution", f"{_mean(reach):.2g} nats per token from the unsteered one")
    shares, spent = [token.gm_scale for token in facts.tokens], [token.final_kl for token in facts.tokens]
    budget = "none: steps of a fixed size" if facts.budget is None else f"{facts.budget:.2g} nats per token"
    table.add_row("its share (gm_scale)", f"{_mean(shares):.2g} on average, {max(shares):.2g} at most")
    table.add_row("spent", f"{facts.spent:.2g} nats per token, {max(spent):.2g} at most")
    table.add_row("budget", budget)
    console.print(Padding(table, _INDENT, expand=False))


def _show_attribute(console: Console, facts: TextFacts, own: AttributeFacts) -> None:
    weight = "" if own.weight == 1 else f", weight {own.weight:g}"
    level = own.level
    if level is None or not own.words:
        _heading(console, f"{own.name}{weight}")
        fall = "" if own.loss_fall is None else f"; its loss fell by {own.loss_fall:.2g} nats per token"
        _line(console, f"acted at {own.acted} of {len(facts.tokens)} tokens{fall}.")
        if level is not None:
            _line(console, f"level per token: {level.unsteered:.3g} unsteered, {level.final:.3g} after steering.")
        if own.reached is not None:
            _line(console, f"level of the text at its end: {own.reached:.3g}.")
        return
    reach = {name: [word.word for word in own.words if word.reach == name] for name in ("completed", "unspelt")}
    _heading(console, f"{own.name}: {len(own.words)} words, {own.begun} can be begun{weight}")
    _line(console, f"level per token: {level.unsteered:.3g} unsteered, {level.final:.3g} after steering, "
                   f"{level.drawn:.3g} after sampling.")  # fmt: skip
    if reach["completed"]:
        _line(console, "start with a token too common to reward, so only their later tokens count: "
                       f"{', '.join(reach['completed'])}.")  # fmt: skip
    if reach["unspelt"]:
        _line(console, f"cannot be spelt: {', '.join(reach['unspelt'])}.")
    words = [word for word in own.words if word.best_token is not None or word.written]
    if words:
        _line(console, "expected number of each in this text:")
        console.print()
        _show_words(console, facts, words)


def _show_words(console: Console, facts: TextFacts, words: Sequence[WordFacts]) -> None:
    table = _table("word", "unsteered", "steered", "drawn", "written", "most at token")
    for word in words[:_ROWS]:
        place = "" if word.best_token is None else f"{word.best_token + 1} after {_before(facts, word.best_token)}"
        total = word.total
        numbers = (f"{total.unsteered:.3f}", f"{total.final:.3f}", f"{total.drawn:.3f}", str(word.written))
        table.add_row(Text(word.word), *numbers, Text(place))
    console.print(Padding(table, _INDENT, expand=False))
    _rest(console, len(words), "words")


def _show_tokens(console: Console, facts: TextFacts) -> None:
    gains = [sum(abs(level.gain) for level in token.levels.values()) for token in facts.tokens]
    places = sorted(range(len(gains)), key=lambda place: -gains[place] or -facts.tokens[place].final_kl)
    places = [place for place in places if gains[place] > 0 or facts.tokens[place].final_kl > 0]
    if not places:
        return
    _heading(console, "Tokens that moved most")
    table = _table("", "token", "nats", "gain", "words that gained")
    for place in sorted(places[:_ROWS]):
        token = facts.tokens[place]
        best = ", ".join(f"{word} {gain:+.3f}" for own in token.words.values() for word, gain in own.items())
        gain = f"{sum(level.gain for level in token.levels.values()):+.3f}" if token.levels else ""
        table.add_row(str(place + 1), Text(repr(token.text)), f"{token.final_kl:.3f}", gain, Text(best))
    console.print(Padding(table, _INDENT, expand=False))
    _rest(console, len(places), "tokens")


def _before(facts: TextFacts, place: int) -> str:
    return repr(facts.tokens[place - 1].text) if place else "the prompt"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first)
    for name in others:
        text = name.startswith(("token", "word", "most"))
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    return table


def _rest(console: Console, count: int, what: str) -> None:
    if count > _ROWS:
        _line(console, Text(f"... {count - _ROWS} more {what}: --json has all", style="dim"))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _line(console: Console, text: str | Text) -> None:
    console.print(Padding(text, _INDENT, expand=False))


def _mean(values: Iterable[float]) -> float:
    own = list(values)
    return sum(own) / len(own)
