"""The page: what stands where, and what happens when somebody presses a button."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import gradio as gr
from markupsafe import Markup

from pplm.apps.html import trace_fragment
from pplm.apps.web.controls import make_controls, request_of_values, values_of_request
from pplm.apps.web.copies import as_command, as_python
from pplm.apps.web.link import query_of, request_of
from pplm.apps.web.running import Progress, write
from pplm.apps.web.served import Served
from pplm.apps.web.visits import Visits
from pplm.apps.web.waves import FASTEST, SLOWEST, WaveTab
from pplm.errors import InputError

TITLE = "pplm: steer a language model while it writes"
_HINT = """<div class="hint"><p><strong>Choose a topic and press Generate.</strong></p><p>The text is written twice with
the same random numbers: steered, and without steering beside it. The darker a word's ground, the more steering raised
the topic's probability there.</p><p>The model itself stays as it is: steering moves what it remembers of the text, a
little before each token.</p></div>"""
_WAVES = """<p>A network of 769 numbers that was trained on a wave of 2 Hz continues ten samples of it. Steering moves
its hidden activation before each sample, towards a formula of the wanted wave; no weight changes.</p>"""
_ENDED = {
    "done": "Done.",
    "stopped": "Stopped; this is what was written until then.",
    "time": "The time for one request is over; this is what was written until then.",
}
_SHOW_LINK = "(query) => { if (!query) return ''; history.replaceState(null, '', '?' + query); return location.href; }"
_SHOW_STATUS = """() => {
  const status = document.getElementById("status");
  if (status.getBoundingClientRect().top > innerHeight) status.scrollIntoView({ behavior: "smooth" });
}"""
"""On a phone the result stands below the settings."""
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


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
            request = self.served.check(request_of_values(values))
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
        """Let the visitor press Generate again, also where there was no place in the queue."""
        refused = self.visits.leave(_name(visitor))
        said = _said("Too many visitors wait already; try again in a minute.", wrong=True) if refused else gr.skip()
        return gr.update(interactive=True), gr.update(interactive=False), said

    def stop(self, visitor: gr.Request) -> None:
        """End the visitor's texts; what is said of it comes with them."""
        self.visits.stop(_name(visitor))

    def leave(self, visitor: gr.Request) -> None:
        """Free the place of a visitor who has closed the page."""
        self.visits.leave(_name(visitor))

    def restore(self, visitor: gr.Request) -> list[Any]:
        """Return what the controls and the status show for the link that the page was opened with."""
        pairs = [(str(name), str(text)) for name, text in visitor.query_params.multi_items() if name not in _OF_GRADIO]
        keep = [gr.skip()] * len(values_of_request(request_of([])))
        if not pairs:
            return [*keep, gr.skip()]
        try:
            request = self.served.check(request_of(pairs))
        except InputError as error:
            return [*keep, _said(f"This link cannot be used: {error}", wrong=True)]
        return [*values_of_request(request), _said("Restored from the link; press Generate.")]

    def wave(self, frequency: float, strength: float) -> Iterator[str]:
        """Yield the picture of a wave, and before the first one what takes so long."""
        if not self.waves.trained:
            yield _said("Training the small network, once ...")
        try:
            yield self.waves.picture(frequency, strength)
        except InputError as error:
            yield _said(str(error), wrong=True)

    def _link(self, request: Any) -> str:
        try:
            return query_of(request)
        except InputError:  # too long for one; the command and the program are there all the same
            return ""


_OF_GRADIO = ("__theme", "__lang", "__sign", "view", "logs", "deep_link")
"""What gradio and Spaces put into a page's address."""


def make_page(page: Page) -> gr.Blocks:
    """Return the page."""
    with gr.Blocks(analytics_enabled=False, title=TITLE) as blocks:
        gr.HTML(_head(page.served.name), elem_id="head", apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Write"):
                _write_tab(page, blocks)
            with gr.Tab("Sine wave") as tab:
                _wave_tab(page, tab)
        blocks.unload(page.leave)
    # Two texts at once would only share the processor; others wait, and not too many of them.
    return blocks.queue(max_size=16, default_concurrency_limit=8, api_open=False)


def _write_tab(page: Page, blocks: gr.Blocks) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            controls, go, stop = make_controls(page.served)
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML("", elem_id="status", apply_default_css=False)
            result = gr.HTML(_HINT, elem_id="result", apply_default_css=False)
            with gr.Accordion("Take it along: link, command, Python", open=False):
                link = _copied("Link to these settings", "link")
                command = _copied("The same texts from the command line", "command")
                program = _copied("The same texts from Python", "program")
            query = gr.Textbox("", visible="hidden", elem_id="query", label="Query")
    outputs = [result, status, query, command, program]
    begun = go.click(page.begin, outputs=[go, stop, status], queue=False, **_PRIVATE)
    # Without gradio's own check of values, which writes what a stranger has sent into the log; a request checks itself.
    written = begun.then(
        page.write, inputs=controls.all, outputs=outputs, concurrency_limit=1, concurrency_id="model",
        api_visibility="private", show_progress="minimal", show_progress_on=status, preprocess=False,
    )  # fmt: skip
    written.then(page.finish, outputs=[go, stop, status], queue=False, **_PRIVATE)
    go.click(None, js=_SHOW_STATUS, **_PRIVATE)
    query.change(None, inputs=query, outputs=link, js=_SHOW_LINK, **_PRIVATE)
    stop.click(page.stop, queue=False, **_PRIVATE)
    blocks.load(page.restore, outputs=[*controls.all, status], **_PRIVATE)


def _wave_tab(page: Page, tab: Any) -> None:
    gr.HTML(_WAVES)
    with gr.Row():
        frequency = gr.Slider(
            SLOWEST, FASTEST, 2.5, step=0.1, label="Wanted frequency", info="Hz; it was trained on 2."
        )
        strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", info="0 leaves the wave alone; 1 is the usual step.")
    picture = gr.HTML("", elem_id="wave", apply_default_css=False)
    for event in (tab.select, frequency.release, strength.release, frequency.input, strength.input):
        event(page.wave, inputs=[frequency, strength], outputs=picture, concurrency_limit=1, concurrency_id="wave",
              trigger_mode="always_last", preprocess=False, **_PRIVATE)  # fmt: skip


def _copied(label: str, name: str) -> Any:
    return gr.Textbox("", label=label, lines=1, max_lines=14, interactive=False, buttons=["copy"], elem_id=name,
                      elem_classes="code")  # fmt: skip


def _head(model: str) -> str:
    return Markup(
        "<h1>Steer a language model while it writes</h1><p>Model: <strong>{}</strong>. It stays frozen: nothing is "
        "trained.</p>"
    ).format(model)


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


def style() -> str:
    """Return the page's own style."""
    return (files("pplm.apps.web") / "static" / "web.css").read_text(encoding="utf-8")
