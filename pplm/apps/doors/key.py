"""The key that opens a door: read from the environment or a file, compared in constant time."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

from pplm.apps.doors.address import is_loopback
from pplm.errors import InputError
from pplm.files.reading import read_text

KEY_VARIABLE = "PPLM_API_KEY"
_SHORTEST = 16
"""Characters; a shorter key can be guessed."""


@dataclass(frozen=True)
class ApiKey:
    """A key of at least 16 printable ASCII characters without spaces.

    Raises
    ------
    InputError
        If it has another form; the message does not contain it.

    """

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        """Check its form."""
        if len(self.text) < _SHORTEST or not self.text.isascii() or not self.text.isprintable() or " " in self.text:
            raise InputError(
                f"the API key must be {_SHORTEST} or more printable ASCII characters without spaces; it has "
                f"{len(self.text)} characters; make one with: "
                "python -c 'import secrets; print(secrets.token_urlsafe())'"
            )

    def matches(self, given: str | None) -> bool:
        """Return whether what was given is this key, in a time that does not depend on where the two differ."""
        return hmac.compare_digest(self.text.encode(), (given or "").encode("utf-8", "replace"))

    def opens(self, authorization: str | None) -> bool:
        """Return whether an Authorization header, `Bearer KEY`, holds this key."""
        scheme, _, given = (authorization or "").partition(" ")
        return self.matches(given.strip()) and scheme.lower() == "bearer"


def find_key(path: Path | None) -> ApiKey | None:
    """Return the key in a file, or without a file that of the environment (`PPLM_API_KEY`); None if neither is given.

    Raises
    ------
    InputError
        If the file cannot be read, or what it holds is not a key.

    """
    if path is not None:
        return ApiKey(read_text("API key file", path).strip())
    text = os.environ.get(KEY_VARIABLE, "").strip()
    return ApiKey(text) if text else None


def check_key(host: str, key: ApiKey | None) -> None:
    """Refuse a host that other machines can reach, unless there is a key.

    Raises
    ------
    InputError
        If other machines can reach it and there is none.

    """
    if key is None and not is_loopback(host):
        raise InputError(
            f"--host {host} can be reached from other machines, which needs an API key: set {KEY_VARIABLE}, pass "
            "--api-key-file FILE, or stay on 127.0.0.1"
        )
