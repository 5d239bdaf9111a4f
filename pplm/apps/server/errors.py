"""Errors as OpenAI's clients read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DEFECT = "the server failed to answer; its log says why"
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass
class ApiError(Exception):
    """A request that is refused.

    Attributes
    ----------
    status
        The HTTP status.
    message
        What people read.
    param, code
        The field that is to blame, and what is wrong with it as one word; None where unknown.
    headers
        Further headers of the answer.

    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the JSON that clients read."""
        message = self.message.encode("utf-8", "backslashreplace").decode()  # it may quote half a character
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error of a request that its client can correct."""
    return ApiError(400, message, param, code)


def of_validation(errors: list[dict[str, Any]]) -> ApiError:
    """Return the first of pydantic's errors, without quoting the value that was sent."""
    first = errors[0]
    name = first.get("ctx", {}).get("name")
    if first["type"] == "extra_forbidden":
        *above, own = first["loc"][1:]  # the last is the client's name for it, whatever it looks like
        field = ".".join([*(str(part) for part in above if _is_field(part)), str(own)[:100]])
        return refused(f"{field} is not a field that is served here; leave it out", field, "unknown_parameter")
    place = ".".join(str(part) for part in first["loc"][1:] if _is_field(part)) or None
    if first["type"] == "not_served":
        return refused(first["msg"], name, "unsupported_parameter")
    if first["type"] == "json_invalid":
        return refused("the body is not JSON; send a JSON object")
    return refused(f"{place or 'the body'}: {first['msg'].removeprefix('Value error, ')}"[:400], place, "invalid_value")


def _is_field(part: int | str) -> bool:
    """Return whether a part of the place that pydantic names is in the request: of unions it also names the types."""
    return isinstance(part, int) or (part.isidentifier() and part != "str")
