"""The address of a door (the server or the web page): its host and port, and the host names that requests may use.

A stranger's web page can make a visitor's browser call a server on the visitor's own machine, under a name of the
stranger's that resolves to it (DNS rebinding). The Host header then holds that name, so a door refuses all names but
its own.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from importlib.util import find_spec

from pplm.errors import InputError

LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = ("localhost", LOOPBACK, "[::1]")
_LARGEST_PORT = 65535


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this host and port; port 0 takes a free one.

    Raises
    ------
    InputError
        If there is no such host or port here, or the port is taken.

    """
    if not 0 <= port <= _LARGEST_PORT:
        raise InputError(f"--port must be between 0 (any free one) and {_LARGEST_PORT}; got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port} cannot be used: {reason}; choose another") from error


def url(host: str, port: int) -> str:
    """Return the address of a door, as a browser takes it."""
    return f"http://{_in_url(host)}:{port}"


def allowed_hosts(host: str, also: Sequence[str] = ()) -> list[str]:
    """Return the host names that requests may use, as Starlette's `TrustedHostMiddleware` takes them.

    Parameters
    ----------
    host
        What the door listens on; 0.0.0.0 and :: stand for all addresses of this machine.
    also
        Further names, such as that of a proxy in front.

    Raises
    ------
    InputError
        If a further name is a pattern other than `*.example.com`, or not a host name.

    """
    for name in also:
        plain = name.removeprefix("*.")
        if not plain or not set("*/ ").isdisjoint(plain):
            raise InputError(f"--allow-host {name!r} is not a host name; write example.com or *.example.com")
    everywhere = host in ("0.0.0.0", "::", "")  # noqa: S104
    own = _own_addresses() if everywhere else [host]
    return list(dict.fromkeys([*_LOOPBACK_NAMES, *map(_in_url, own), *also]))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _own_addresses() -> list[str]:
    import psutil

    found = [one.address.partition("%")[0] for card in psutil.net_if_addrs().values() for one in card
             if one.family in (socket.AF_INET, socket.AF_INET6)]  # fmt: skip
    return [socket.gethostname(), *found]


def check_extra(extra: str, packages: Sequence[str]) -> None:
    """Refuse to go on without an extra's packages.

    Raises
    ------
    InputError
        If one is missing; the message holds the command that installs them.

    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f'pplm {extra} needs {", ".join(missing)}; install it with: pip install "pplm[{extra}]"')
