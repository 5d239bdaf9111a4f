"""The page as a Hugging Face Space: its settings, from the Space's environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from pplm.apps.doors.key import find_key
from pplm.apps.web.run import Settings

_HUB = "https://huggingface.co"
"""The site that shows a Space inside one of its own pages."""


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Return the settings for an environment: open to all in a Space, on this machine alone anywhere else.

    Raises
    ------
    InputError
        If the environment's key is too short or not printable.

    """
    key = find_key(None)
    if not environment.get("SPACE_ID"):
        return Settings(key=key)
    names = tuple(name for name in (environment.get("SPACE_HOST"),) if name)
    return Settings(host="0.0.0.0", hosts=names, frames=(_HUB,), key=key, seconds=60)  # noqa: S104 - the Space's own
