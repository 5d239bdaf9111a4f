"""Writes the texts of a request in a thread of its own, and yields them while they grow."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pplm.apps.web.copies import as_command
from pplm.apps.web.draft import Draft
from pplm.apps.web.request import PageRequest
from pplm.apps.web.served import SAMPLING, Served
from pplm.documents import trace_document
from pplm.errors import SteeringWarning
from pplm.generation import generate

PAUSE = 0.2
"""Seconds between two updates of texts that grow."""
_WRITER = "pplm-writer"


@dataclass(frozen=True)
class Progress:
    """Texts so far.

    Attributes
    ----------
    document
        The document of their trace; None while there is no token.
    ended
        Why nothing more comes: "done", "stopped", "time"; "" while they grow.
    notes
        Warnings and reports about the attribute models, for the visitor.

    """

    document: dict[str, Any] | None
    ended: str = ""
    notes: tuple[str, ...] = ()


@dataclass
class Reins:
    """Ends the texts of a request early: when it is asked to, or when their time is up.

    Attributes
    ----------
    seconds
        How long all texts of a request may take.
    refused
        Why no text is written; "" unless the request cannot be used.

    """

    seconds: float
    refused: str = ""
    _asked: threading.Event = field(default_factory=threading.Event)
    _end: float | None = None

    def stop(self) -> None:
        """Ask the texts to end."""
        self._asked.set()

    def start(self) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    @property
    def started(self) -> bool:
        """Whether the clock runs, so that texts are being written."""
        return self._end is not None

    @property
    def why(self) -> str:
        """Why the texts end early: "stopped" or "time"; "" while they may go on."""
        if self._asked.is_set():
            return "stopped"
        return "time" if self._end is not None and time.monotonic() > self._end else ""


def write(served: Served, request: PageRequest, reins: Reins) -> Iterator[Progress]:
    """Yield the texts while they are written, the steered ones first, and once more when they are complete.

    Closing the iterator stops the writing, and waits for it: at most for one token.

    Raises
    ------
    InputError
        If something that is asked for does not fit the model.

    """
    reins.start()
    work = _Work(served, request, reins)
    thread = threading.Thread(target=work.run, name=_WRITER, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(PAUSE)
            if (document := work.document()) is not None:
                yield Progress(document, notes=work.notes)
    finally:
        if thread.is_alive():
            reins.stop()
            thread.join()
    if work.error is not None:
        raise work.error
    yield Progress(work.final, reins.why or "done", work.notes)


def is_writing() -> bool:
    """Return whether any text of this process is being written."""
    return any(thread.name == _WRITER for thread in threading.enumerate())


class _Work:
    """The work of the thread, and what it leaves for the other one."""

    def __init__(self, served: Served, request: PageRequest, reins: Reins) -> None:
        self._served, self._request, self._reins = served, request, reins
        self._draft: Draft | None = None
        self.final: dict[str, Any] | None = None
        self._notes: list[str] = []
        self.error: Exception | None = None

    def document(self) -> dict[str, Any] | None:
        """Return the document so far; None while there is nothing to show."""
        return None if self._draft is None else self._draft.document()

    @property
    def notes(self) -> tuple[str, ...]:
        """The warnings and reports so far, each once."""
        return tuple(dict.fromkeys(self._notes))

    def run(self) -> None:
        """Write all texts; keep errors and our own warnings for the other thread."""
        with warnings.catch_warnings():  # acts on the whole process, but there is one such thread at a time
            warnings.simplefilter("always", SteeringWarning)
            show = warnings.showwarning
            warnings.showwarning = lambda *given, **_: self._note(show, *given)
            try:
                self._write()
            except Exception as error:  # noqa: BLE001 - raised again where it can be shown
                self.error = error

    def _note(self, show: Callable[..., None], message: Any, category: type[Warning], *place: Any) -> None:
        if issubclass(category, SteeringWarning):
            self._notes.append(str(message))
        else:
            show(message, category, *place)

    def _write(self) -> None:
        served, request = self._served, self._request
        served.check(request)
        attributes, steering = served.attributes(request), served.steering(request)
        self._notes += served.notes(request)
        models = [(one.model, one.weight) for one in attributes]
        document = partial(trace_document, command=as_command(served, request), model=served.name, attributes=models,
                           steering=steering)  # fmt: skip
        draft = self._draft = Draft(request, document([]))
        texts = {}
        if models:
            texts[True] = self._generate(draft, steered=True, attributes=models, steering=steering, trace=True)
        if not self._reins.why:
            texts[False] = self._generate(draft, steered=False, trace=[one.model for one in attributes] or True)
        # At strength 0 the steered texts are unsteered ones; a chat's prompt is shown without its template.
        own = [[replace(text, steered=kind, prompt=request.prompt) for text in made] for kind, made in texts.items()]
        self.final = document([text for sample in zip(*own, strict=True) for text in sample])

    def _generate(self, draft: Draft, *, steered: bool, **how: Any) -> list[Any]:
        request = self._request
        return generate(
            self._served.model,
            self._served.tokenizer,
            request.messages() if request.chat else request.prompt,
            num_samples=request.samples,
            seed=request.seed,
            max_new_tokens=request.length,
            on_token=self._take(draft, steered=steered),
            **SAMPLING,
            **how,
        )

    def _take(self, draft: Draft, *, steered: bool) -> Callable[[Any], bool]:
        def take(token: Any) -> bool:
            draft.add(token, steered=steered)
            return bool(self._reins.why)

        return take
