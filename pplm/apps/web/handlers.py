"""What happens on the page: what each handler returns, and what it says where something cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from pplm.apps.html import trace_fragment
from pplm.apps.web.controls import request_of_values, values_of_request
from pplm.apps.web.copies import as_command, as_python
from pplm.apps.web.link import query_of, request_of
from pplm.apps.web.request import PageRequest
from pplm.apps.web.running import Progress, write
from pplm.apps.web.served import Served
from pplm.apps.web.visits import Visits
from pplm.apps.web.waves import WaveTab
from pplm.errors import InputError

_ENDED = {
    "done": "Done.",
    "stopped": "Stopped; this is what was written until then.",
    "time": "The time for one request is over; this is what was written until then.",
}
_QUEUE_FULL = "Too many visitors wait already; try again in a minute."
_OF_GRADIO = ("__theme", "__lang", "__sign", "view", "logs", "deep_link")
"""What gradio and Spaces put into a page's address."""


@dataclass(frozen=True)
class Page:
    """What the page's handlers work with."""

    served: Served
    visits: Visits
    waves: WaveTab

    def begin(self, visitor: gr.Request) -> tuple[Any, Any, str]:
        """Show at once that Generate was pressed."""
        self.visits.begin(_name(visitor))
        return gr.update(interactive=False), gr.update(interactive=True), _said("Waiting for its turn ...")

    def write(self, visitor: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield what the page shows while the texts are written: result, status, link, command, program."""
        name, keep = _name(visitor), gr.skip()
        reins = self.visits.find(name)
        if reins is None:  # has left
            return
        try:
            if reins.why:
                yield keep, _said("Stopped before it began."), keep, keep, keep
                return
            request = self.read_values(*values)
            copies = self._link(request), as_command(self.served, request), as_python(self.served, request)
            yield keep, _said("Reading the request ..."), *copies
            for progress in write(self.served, request, reins):
                said = _said(_ENDED.get(progress.ended, "Writing ..."), notes=progress.notes)
                yield _shown(progress, keep), said, keep, keep, keep
        except InputError as error:
            yield keep, _said(str(error), wrong=True), keep, keep, keep
        finally:
            reins.stop()
            self.visits.end(name, reins)

    def finish(self, visitor: gr.Request) -> tuple[Any, Any, Any]:
        """Let the visitor press Generate again, also where the request was refused before it was in the queue."""
        reins = self.visits.leave(_name(visitor))
        said = gr.skip() if reins is None else _said(reins.refused or _QUEUE_FULL, wrong=True)
        return gr.update(interactive=True), gr.update(interactive=False), said

    def stop(self, visitor: gr.Request) -> None:
        """End the visitor's texts; what is said of it comes with them."""
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

    def wave(self, frequency: float, strength: float) -> Iterator[str]:
        """Yield the picture of a wave, and before the first one what takes so long."""
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

    def _link(self, request: Any) -> str:
        try:
            return query_of(request)
        except InputError:  # too long for one; the command and the program are there all the same
            return ""


def _shown(progress: Progress, keep: Any) -> Any:
    if progress.document is None:
        return keep
    fragment = Markup(trace_fragment(progress.document))  # noqa: S704 - escaped by its templates
    return Markup('<div data-ended="{}">{}</div>').format(progress.ended or "no", fragment)


def _said(text: str, *, wrong: bool = False, notes: Sequence[str] = ()) -> str:
    said = Markup('<p role="{}" class="{}">{}</p>').format(*(("alert", "wrong") if wrong else ("status", "")), text)
    return said + Markup("").join(Markup('<p class="note">{}</p>').format(note) for note in notes)


def _name(visitor: gr.Request) -> str:
    return str(visitor.session_hash)
