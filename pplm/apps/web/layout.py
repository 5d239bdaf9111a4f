"""The page: what stands where, and which handler a button calls."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeAlias

import gradio as gr
from markupsafe import Markup

from pplm.apps.web.controls import Controls, make_controls
from pplm.apps.web.handlers import Page
from pplm.apps.web.request import check_conversation
from pplm.apps.web.waves import FASTEST, SLOWEST, check_wave

TITLE = "pplm: steer a language model while it writes"
_HINT = """<div class="hint"><p><strong>Choose a topic and press Generate.</strong></p><p>The text is written twice with
the same random numbers: steered, and without steering beside it. The darker a word's background, the more steering
raised the topic's probability there.</p><p>The model itself stays as it is: before each token, steering moves what it
remembers of the text a little.</p></div>"""
_WAVES = """<p>A network of 769 numbers that was trained on a wave of 2 Hz continues ten samples of it. Steering moves
its hidden activation before each sample, towards a formula of the wanted wave; no weight changes.</p>"""
_SHOW_LINK = """(query) => {
  history.replaceState(null, "", location.pathname + (query === "?" ? "" : query));
  return query === "?" ? "" : location.href;
}"""
_TO_PROMPT = "() => document.querySelector('#prompt textarea').focus()"
_SHOW = """() => setTimeout(() => {
  const found = document.querySelector("%s"), place = found?.getBoundingClientRect();
  if (place && (place.top > innerHeight || place.bottom < 0)) found.scrollIntoView({ behavior: "smooth" });
}, 100)"""
"""Scrolls to an element out of view: on a phone the status is below the settings, after a long talk above."""
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
Checks: TypeAlias = dict[int, tuple[int, Callable[..., Any]]]
"""By the number that gradio gives a handler: how many values it takes, and the function that refuses wrong ones."""


def make_page(page: Page) -> tuple[gr.Blocks, Checks]:
    """Return the page, and the checks of the values that its handlers are sent."""
    checks: Checks = {}
    with gr.Blocks(analytics_enabled=False, title=TITLE) as blocks:
        gr.HTML(_head(page.served.name), elem_id="head", apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Write"):
                checks |= _write_tab(page, blocks)
            with gr.Tab("Sine wave") as tab:
                checks |= _wave_tab(page, tab)
        blocks.unload(page.leave)
    others: Checks = {number: (len(handler.inputs), lambda *_: None) for number, handler in blocks.fns.items()}
    # Two requests at once would only share the processor, so others wait, in a queue of limited length.
    return blocks.queue(max_size=16, default_concurrency_limit=8, api_open=False), {**others, **checks}


def _write_tab(page: Page, blocks: gr.Blocks) -> Checks:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            controls = make_controls(page.served)
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML("", elem_id="status", apply_default_css=False)
            reply = gr.Button("Reply", visible=False, elem_id="reply")
            result = gr.HTML(_HINT, elem_id="result", apply_default_css=False)
            with gr.Accordion("Take it along: link, command, Python", open=False):
                link = _copied("Link to these settings", "link")
                command = _copied("The same texts from the command line", "command")
                program = _copied("The same texts from Python", "program")
            query = gr.Textbox("", visible="hidden", elem_id="query", label="Query")
            following = gr.JSON([], visible="hidden")
    go, stop = controls.go, controls.stop
    outputs = [result, status, query, command, program, following, reply]
    begun = go.click(page.begin, outputs=[go, stop, status, reply], queue=False, **_PRIVATE)
    # preprocess=False: gradio's own check of values would log what a stranger has sent; `PageRequest` checks itself.
    written = begun.then(
        page.write, inputs=controls.all, outputs=outputs, concurrency_limit=1, concurrency_id="model",
        api_visibility="private", show_progress="minimal", show_progress_on=status, preprocess=False,
    )  # fmt: skip
    for ended in (written.then, written.failure):  # `then` alone is not called when the queue is full
        ended(page.finish, inputs=following, outputs=[go, stop, status, reply], queue=False, preprocess=False,
              **_PRIVATE)  # fmt: skip
    talks = _talk_events(page, controls, status, following, reply)
    go.click(None, js=_SHOW % "#status", **_PRIVATE)
    query.change(None, inputs=query, outputs=link, js=_SHOW_LINK, **_PRIVATE)
    stop.click(page.stop, queue=False, **_PRIVATE)
    restored = blocks.load(page.restore, outputs=[*controls.all, status], **_PRIVATE)
    restored.then(None, js=_SHOW % "#status .wrong", **_PRIVATE)
    return {written["id"]: (len(controls.all), page.read_values), **talks}


def _talk_events(page: Page, controls: Controls, status: Any, following: Any, reply: Any) -> Checks:
    """Let a conversation go on from an answer, or begin anew, and show it whenever it changes."""
    how = {"queue": False, "preprocess": False, **_PRIVATE}
    said, prompt, chat = (controls.by_name[name] for name in ("conversation", "prompt", "chat"))
    replied = reply.click(
        page.reply, inputs=[following, prompt], outputs=[said, following, prompt, chat, reply, status], **how
    )  # fmt: skip
    begun = controls.anew.click(page.forget, outputs=[said, following, reply, status], **how)
    for pressed in (replied, begun):  # the button disappears, and the focus with it
        pressed.then(None, js=_TO_PROMPT, **_PRIVATE)
    shown = [
        event(page.show_conversation, inputs=[chat, said], outputs=[controls.talk, controls.said], **how)
        for event in (chat.change, said.change)
    ]
    checks: Checks = {replied["id"]: (2, lambda said, _: check_conversation(said))}
    return checks | {one["id"]: (2, lambda _, said: check_conversation(said)) for one in shown}


def _wave_tab(page: Page, tab: Any) -> Checks:
    gr.HTML(_WAVES)
    with gr.Row():
        frequency = gr.Slider(
            SLOWEST, FASTEST, 2.5, step=0.1, label="Wanted frequency", info="Hz; it was trained on 2."
        )
        strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", info="0 leaves the wave alone; 1 is the usual step.")
    picture = gr.HTML("<p>Drawing the wave ...</p>", elem_id="wave", apply_default_css=False)
    events = [tab.select, frequency.release, strength.release, frequency.input, strength.input]
    # One handler for all events: of two, the one that was asked first could be the last to draw.
    drawn = gr.on(
        events, page.wave, inputs=[frequency, strength], outputs=picture, concurrency_limit=1, concurrency_id="wave",
        trigger_mode="always_last", preprocess=False, **_PRIVATE,
    )  # fmt: skip
    return {drawn["id"]: (2, check_wave)}


def _copied(label: str, name: str) -> Any:
    return gr.Textbox("", label=label, lines=1, max_lines=14, interactive=False, buttons=["copy"], elem_id=name,
                      elem_classes="code")  # fmt: skip


def _head(model: str) -> str:
    return Markup(
        "<h1>Steer a language model while it writes</h1><p>Model: <strong>{}</strong>. It stays frozen: nothing is "
        "trained.</p>"
    ).format(model)


def style() -> str:
    """Return the page's own style."""
    return (files("pplm.apps.web") / "static" / "web.css").read_text(encoding="utf-8")
