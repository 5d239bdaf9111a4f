"""The page's controls, one for each setting of a request, and the way from their values to a request and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from pplm.apps.web.request import (
    LARGEST_SEED,
    LONGEST_PROMPT,
    MOST_SAMPLES,
    MOST_TOKENS,
    PageRequest,
    split_words,
)
from pplm.apps.web.served import Served
from pplm.errors import InputError

STRENGTHS = "0 unsteered · 0.2 gentle · 0.5 usual · 0.8 strong · 1 maximum"
_LISTS = ("words", "avoid_words", "seeds")
_MOST_LETTERS = 4000
"""Most characters in a box of words."""


@dataclass(frozen=True)
class Controls:
    """The components with which a visitor sets up a request and starts it.

    Attributes
    ----------
    by_name
        A component for each field of `PageRequest`, by its name.
    go, stop
        The buttons that generate and stop.
    talk, said, anew
        Those of a conversation alone: the column around it, its messages to read, the button that forgets them.

    """

    by_name: dict[str, Any]
    go: Any
    stop: Any
    talk: Any
    said: Any
    anew: Any

    @property
    def all(self) -> list[Any]:
        """All components, in the order in which handlers get their values."""
        return [self.by_name[field.name] for field in fields(PageRequest)]


def make_controls(served: Served) -> Controls:
    """Make the controls, inside the gradio block that is open where this is called."""
    usual = PageRequest()
    found: dict[str, Any] = {}
    found["chat"] = gr.Radio(
        [("Continue my text", False), ("Answer me (chat)", True)], value=False, label="Write", visible=served.chat
    )
    found["conversation"] = gr.JSON([], visible="hidden")
    with gr.Column(visible=False, elem_id="talk") as talk:
        said = gr.HTML("", apply_default_css=False)
        anew = gr.Button("New conversation", size="sm", elem_id="anew")
    found["prompt"] = gr.Textbox(usual.prompt, label="Prompt", lines=2, max_lines=8, max_length=LONGEST_PROMPT,
                                 elem_id="prompt")  # fmt: skip
    found["bags"] = gr.CheckboxGroup(list(served.bags), label="Topics", info="Steer towards their words.",
                                     elem_id="bags")  # fmt: skip
    found["strength"] = gr.Slider(0, 1, usual.strength, step=0.05, label="Strength", info=STRENGTHS, elem_id="strength")
    with gr.Row():
        go = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=120)
    with gr.Accordion("Own words, more attributes", open=False):
        found["words"] = _words("Own words", "Words and phrases to steer towards, separated by commas.")
        found["seeds"] = _words("Seed words", "A few words; a bag of 60 is grown from their neighbours in the model.")
        found["heads"] = gr.CheckboxGroup(list(served.heads), label="Heads",
                                          info="Trained classifiers: steer how the text sounds, whatever its topic.",
                                          visible=bool(served.heads), elem_id="heads")  # fmt: skip
    with gr.Accordion("Avoid", open=False):
        rarer = "Their words become rarer, not impossible."
        found["avoid_bags"] = gr.CheckboxGroup(list(served.bags), label="Topics to avoid", info=rarer)
        found["avoid_words"] = _words("Words to avoid", "Words and phrases, separated by commas.")
    with gr.Accordion("Samples, length, seed", open=False):
        found["samples"] = gr.Slider(1, MOST_SAMPLES, usual.samples, step=1, label="Samples",
                                     info="Texts with different random numbers.")  # fmt: skip
        found["length"] = gr.Slider(
            1, MOST_TOKENS, usual.length, step=1, label="Length", info="New tokens of each text."
        )
        found["seed"] = gr.Number(usual.seed, label="Seed", minimum=0, maximum=LARGEST_SEED, precision=0,
                                  info="The same seed gives the same texts.")  # fmt: skip
    with gr.Accordion("System message", open=False, visible=served.chat):
        found["system"] = gr.Textbox("", label="System message", lines=2, max_length=LONGEST_PROMPT,
                                     info="Tells the model how to answer; only with “Answer me”.")  # fmt: skip
    return Controls(found, go, stop, talk, said, anew)


def request_of_values(values: Sequence[Any]) -> PageRequest:
    """Return the request that the controls' values ask for.

    Raises
    ------
    InputError
        If a value cannot be used.

    """
    given: dict[str, Any] = {}
    for field, value in zip(fields(PageRequest), values, strict=True):
        default = field.default
        kind = str if field.name in _LISTS or isinstance(default, str) else type(default)
        if value is not None and kind in (str, tuple) and not isinstance(value, str if kind is str else list):
            raise InputError(f"{field.name} must be {'text' if kind is str else 'a list'}; got {type(value).__name__}")
        if field.name in _LISTS:
            value = split_words(value or "")
        elif isinstance(default, tuple):
            value = tuple(value or ())
        elif isinstance(default, int) and isinstance(value, float) and value.is_integer():
            value = int(value)
        elif isinstance(default, str):
            value = (value or "").replace("\r\n", "\n")
        given[field.name] = value
    if not given["chat"]:
        given |= {"system": "", "conversation": ()}
    return PageRequest(**given)


def values_of_request(request: PageRequest) -> list[Any]:
    """Return what the controls show for a request."""
    shown = []
    for field in fields(PageRequest):
        value = getattr(request, field.name)
        if field.name in _LISTS:
            value = ", ".join(value)
        elif isinstance(value, tuple):
            value = list(value)
        shown.append(value)
    return shown


def _words(label: str, info: str) -> Any:
    return gr.Textbox("", label=label, info=info, lines=1, max_lines=4, max_length=_MOST_LETTERS)
