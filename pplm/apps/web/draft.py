"""The texts of one request while they are written, as the document of a trace."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pplm.apps.web.request import PageRequest
from pplm.files.lines import finite

if TYPE_CHECKING:
    from pplm.text.details import NewToken


class Draft:
    """Collects tokens in one thread while another reads what there is.

    Parameters
    ----------
    request
        The request whose texts are written.
    frame
        The document of a trace without its texts.

    """

    def __init__(self, request: PageRequest, frame: Mapping[str, Any]) -> None:
        self._request, self._frame = request, frame
        self._tokens: dict[tuple[int, bool], list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def add(self, token: NewToken, *, steered: bool) -> None:
        """Add a token of the steered or of the unsteered text of its sample."""
        assert token.details is not None  # noqa: S101 - every text is traced
        with self._lock:
            tokens = self._tokens.setdefault((token.sample, steered), [])
            del tokens[token.position :]  # where memory runs out, texts begin again
            tokens.append(finite(token.details.record()))

    def document(self) -> dict[str, Any] | None:
        """Return the document so far; None while there is no token."""
        with self._lock:
            found = {key: list(tokens) for key, tokens in self._tokens.items()}
        # Each text has its place from the start, so that nothing moves aside when another begins.
        kinds = (True, False) if self._request.names_any else (False,)
        places = [(sample, kind) for sample in range(self._request.samples) for kind in kinds]
        texts = [self._text(*place, found.get(place, ())) for place in places]
        return {**self._frame, "texts": texts} if found else None

    def _text(self, sample: int, steered: bool, tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
        completion = "".join(token["text"] for token in tokens)
        return {
            "prompt": self._request.prompt,
            "prompt_index": 0,
            "sample": sample,
            "seed": self._request.seed,
            "steered": steered,
            "text": self._request.prompt + completion,
            "completion": completion,
            "levels": {},
            "tokens": list(tokens),
        }
