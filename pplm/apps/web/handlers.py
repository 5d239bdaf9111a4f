"""The page's handlers: what each returns, and the message that it shows where something cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

import gradio as gr
from markupsafe import Markup

from pplm.apps.html import trace_fragment
from pplm.apps.html.shown import clean
from pplm.apps.web.controls import request_of_values, values_of_request
from pplm.apps.web.copies import as_command, as_python
from pplm.apps.web.link import query_of, request_of
from pplm.apps.web.request import PageRequest, check_conversation
from pplm.apps.web.running import Progress, write
from pplm.apps.web.served import Served
from pplm.apps.web.visits import Visits
from pplm.apps.web.waves import WaveTab
from pplm.errors import InputError

_ENDED = {
    "done": "Done. No topic in it? Raise the strength, or take another seed. Cut off? Raise the length.",
    "stopped": "Stopped; this is what was written until then.",
    "time": "The time for one request is over; this is what was written until then.",
}
_QUEUE_FULL = "Too many visitors are waiting already; try again in a minute."
_OF_GRADIO = ("__theme", "__lang", "__sign", "view", "logs", "deep_link")
"""What gradio and Spaces put into a page's address."""


_TALK = Markup(
    """<div class="talk" tabindex="0" role="region" aria-label="Conversation so far"><dl>{}</dl></div>
<p class="note">Both new answers follow this conversation. It keeps the steered answers (of several samples the first),
and the unsteered ones where nothing steered.</p>"""
)


class Shown(NamedTuple):
    """What changes on the page while texts are written, in the order of the layout's outputs."""

    result: Any = gr.skip()
    status: Any = gr.skip()
    query: Any = gr.skip()
    command: Any = gr.skip()
    program: Any = gr.skip()
    following: Any = gr.skip()
    reply: Any = gr.skip()


@dataclass(frozen=True)
class Page:
    """What the page's handlers work with."""

    served: Served
    visits: Visits
    waves: WaveTab

    def begin(self, visitor: gr.Request) -> tuple[Any, Any, str, Any]:
        """Show at once that Generate was pressed."""
        self.visits.begin(_name(visitor))
        said = _said("Waiting for its turn ...")
        return gr.update(interactive=False), gr.update(interactive=True), said, gr.update(visible=False)

    def write(self, visitor: gr.Request, *values: Any) -> Iterator[Shown]:
        """Yield what the page shows while the texts are written."""
        name = _name(visitor)
        reins = self.visits.find(name)
        if reins is None:  # the visitor has left, or begun a new conversation
            yield Shown()  # without it gradio would empty all that is shown
            return
        try:
            if reins.why:
                yield Shown(status=_said("Stopped before it began."))
                return
            request = self.read_values(*values)
            query, *notes = _link(request)
            copies = as_command(self.served, request), as_python(self.served, request)
            yield Shown(gr.skip(), _said("Reading the request ...", notes=notes), query, *copies)
            for progress in write(self.served, request, reins):
                # A new conversation that began meanwhile has forgotten this one.
                goes_on = self.visits.find(name) is reins
                following, *full = _following(request, progress) if goes_on else [[]]
                said = _said(_ENDED.get(progress.ended, "Writing ..."), notes=(*notes, *progress.notes, *full))
                reply = gr.update(visible=bool(following), value=_reply_to(request))
                yield Shown(_result(progress), said, following=following, reply=reply)
        except InputError as error:
            yield Shown(status=_said(str(error), wrong=True))
        finally:
            reins.stop()
            self.visits.end(name, reins)

    def finish(self, visitor: gr.Request, following: list[str]) -> tuple[Any, ...]:
        """Let the visitor press Generate again, also where the request was refused before it was in the queue.

        If the page still shows an answer, it can be replied to.
        """
        reins = self.visits.leave(_name(visitor))
        said = gr.skip() if reins is None else _said(reins.refused or _QUEUE_FULL, wrong=True)
        return gr.update(interactive=True), gr.update(interactive=False), said, gr.update(visible=bool(following))

    def stop(self, visitor: gr.Request) -> None:
        """End the visitor's texts; `write` reports it with the last of them."""
        self.visits.stop(_name(visitor))

    def leave(self, visitor: gr.Request) -> None:
        """Free the place of a visitor who has closed the page."""
        self.visits.leave(_name(visitor))

    def restore(self, visitor: gr.Request) -> list[Any]:
        """Return what the controls and the status show for the link that the page was opened with."""
        keep = [gr.skip()] * len(values_of_request(PageRequest()))
        try:
            request = self.read_link(visitor.query_params.multi_items())
        except InputError as error:
            return [*keep, _said(f"This link cannot be used: {error}", wrong=True)]
        if request is None:
            return [*keep, gr.skip()]
        return [*values_of_request(request), _said("Restored from the link; press Generate.")]

    def reply(self, following: list[str], prompt: str) -> tuple[Any, ...]:
        """Go on from an answer: return the conversation, nothing more to go on from, prompt, chat, button and status.

        What the visitor has written since stays as the prompt.
        """
        prompt = "" if [prompt] == following[-2:-1] else prompt
        said = _said("Write your next message, and press Generate.")
        return following, [], prompt, True, gr.update(visible=False), said

    def forget(self, visitor: gr.Request) -> tuple[Any, ...]:
        """End the visitor's text; return an empty conversation, nothing to go on from, the button and the status."""
        self.visits.leave(_name(visitor))
        return [], [], gr.update(visible=False), _said("The next message begins a new conversation.")

    def show_conversation(self, chat: Any, said: Any) -> tuple[Any, str]:
        """Return whether a conversation is shown, and its messages as HTML."""
        said = check_conversation(said)
        named = zip(cycle(("You", "Model")), said, strict=False)
        lines = (Markup("<dt>{}</dt><dd>{}</dd>").format(role, clean(text)) for role, text in named)
        return gr.update(visible=bool(chat and said)), _TALK.format(Markup("").join(lines))

    def wave(self, frequency: float, strength: float) -> Iterator[str]:
        """Yield the picture of a wave; before the first one, a note that the network is being trained."""
        if not self.waves.trained:
            yield _said("Training the small network, once ...")
        try:
            yield self.waves.picture(frequency, strength)
        except InputError as error:
            yield _said(str(error), wrong=True)

    def read_values(self, *values: Any) -> PageRequest:
        """Return the request that the controls' values ask for.

        Raises
        ------
        InputError
            If one cannot be used, or names what is not offered.

        """
        return self.served.check(request_of_values(values))

    def read_link(self, pairs: Iterable[tuple[Any, Any]]) -> PageRequest | None:
        """Return the request that a link's query string asks for; None where it asks for nothing.

        Raises
        ------
        InputError
            If it cannot be used, or names what is not offered.

        """
        own = [(str(name), str(text)) for name, text in pairs if name not in _OF_GRADIO]
        return self.served.check(request_of(own)) if own else None


def _link(request: PageRequest) -> list[str]:
    """Return a link's query string with its question mark; if there can be none, the mark alone and the reason."""
    try:
        return [f"?{query_of(request)}"]
    except InputError as error:
        return ["?", f"These settings have no link: {error}. The command and the program hold all of them."]


def _following(request: PageRequest, progress: Progress) -> list[Any]:
    """Return the conversation to go on from once its answer is complete, else an empty one; and why none can."""
    if not (request.chat and progress.ended and progress.document):
        return [[]]
    try:
        return [list(request.continued(progress.document["texts"][0]["completion"]))]
    except InputError as error:
        return [[], f"This cannot be replied to: {error}"]


def _reply_to(request: PageRequest) -> str:
    first, steered = "first " if request.samples > 1 else "", "steered " if request.names_any else ""
    return f"Reply to the {first}{steered}answer"


def _result(progress: Progress) -> Any:
    if progress.document is None:
        return gr.skip()
    fragment = Markup(trace_fragment(progress.document))  # noqa: S704 - escaped by its templates
    return Markup('<div data-ended="{}">{}</div>').format(progress.ended or "no", fragment)


def _said(text: str, *, wrong: bool = False, notes: Sequence[str] = ()) -> str:
    said = Markup('<p role="{}" class="{}">{}</p>').format(*(("alert", "wrong") if wrong else ("status", "")), text)
    return said + Markup("").join(Markup('<p class="note">{}</p>').format(note) for note in notes)


def _name(visitor: gr.Request) -> str:
    return str(visitor.session_hash)
