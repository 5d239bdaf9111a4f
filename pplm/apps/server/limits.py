"""How much one client may ask for, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pplm.checks import check_whole

MOST_STOPS = 4
"""Stop strings in a request, as at OpenAI."""
LONGEST_STOP = 100
"""Characters of a stop string."""
MOST_MESSAGES = 200
DEFAULT_TOKENS = 16
"""New tokens of a completion without max_tokens, as at OpenAI. An answer in a chat may be as long as is allowed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper bounds of the server, each a whole number of at least 1.

    Attributes
    ----------
    max_tokens
        New tokens of one text.
    max_samples
        Texts of one request: prompts times `n`.
    max_batch_size
        Texts that are generated at once.
    max_waiting
        Requests that wait for their turn; further ones are refused.
    max_seconds
        Counted from a request's arrival: then one that still waits is refused, and one that is being answered ends.
    max_body
        Bytes of a request.

    Raises
    ------
    InputError
        If one is not a whole number of at least 1.

    """

    max_tokens: int = 512
    max_samples: int = 8
    max_batch_size: int = 32
    max_waiting: int = 128
    max_seconds: int = 120
    max_body: int = 256 * 1024

    def __post_init__(self) -> None:
        """Check every bound."""
        for field in fields(self):
            check_whole(f"--{field.name.replace('_', '-')}", getattr(self, field.name), 1)
