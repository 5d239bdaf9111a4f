"""Which calls of ours meet a deprecation, wherever the library that deprecates says that the warning comes from.

A warning that names one of our modules is an error by the filters of pytest. Many libraries name themselves instead, or
write to their log; then whoever called the function that warns is looked for.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
OWN = tuple(f"{ROOT / package}{os.sep}" for package in ("pplm", "attribute_models"))
KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
LOGGER = "transformers"
LOG = str(Path(LOGGER, "utils", "logging.py"))


@contextmanager
def deprecated_calls() -> Iterator[list[str]]:
    """Yield a list that fills with a line for each call of ours to something deprecated, while the block runs.

    transformers logs most of its deprecations once per process; only that one is seen.
    """
    found: list[str] = []
    plain, logger, handler = warnings.warn, logging.getLogger(LOGGER), _Handler(found)
    outer = [one for one in logger.handlers if isinstance(one, _Handler)]

    def warn(message, category=None, stacklevel=1, *others, **named):
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        if issubclass(kind, KINDS):
            _note(found, message, sys._getframe(1))
        return plain(message, category, stacklevel + 1, *others, **named)

    warnings.warn = warn
    logger.handlers = [*(one for one in logger.handlers if one not in outer), handler]
    try:
        yield found
    finally:
        warnings.warn = plain
        logger.handlers = [*(one for one in logger.handlers if one is not handler), *outer]


class _Handler(logging.Handler):
    def __init__(self, found):
        super().__init__(logging.WARNING)
        self.found = found

    def emit(self, record):
        if "deprecat" in record.getMessage().lower():
            frame = sys._getframe(1)
            while (frame and Path(frame.f_code.co_filename).parent.name == "logging") or _is_log(frame):
                frame = frame.f_back
            _note(self.found, record.getMessage(), frame)


def _is_log(frame: FrameType | None) -> bool:
    """Whether a frame is of transformers' own logging, which stands between a message and who logs it."""
    return frame is not None and frame.f_code.co_filename.endswith(LOG)


def _note(found: list[str], message: object, deprecated: FrameType | None) -> None:
    """Note a message if the function that gives it was called by us, be it through `with`."""
    caller = deprecated and deprecated.f_back
    while caller and Path(caller.f_code.co_filename).name == "contextlib.py":
        caller = caller.f_back
    if caller and caller.f_code.co_filename.startswith(OWN):
        found.append(f"{Path(caller.f_code.co_filename).relative_to(ROOT)}:{caller.f_lineno}: {message}")
