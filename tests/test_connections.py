"""What a door does with clients that keep it waiting, over real connections."""

import asyncio
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec

import pytest
from browser import require

require(find_spec("uvicorn"), "the package uvicorn (the extras `serve` and `web`)")

HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WAITS = 0.6
"""Seconds for which the door waits in these tests."""
PLACES = 10


async def app(scope, receive, send):
    """Answer after the seconds and with the length that the path says, as /0/5."""
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{what}.complete"})
        return
    seconds, size = (float(part or 0) for part in (scope["path"] + "/").split("/")[1:3])
    await asyncio.sleep(seconds)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(size) // 10_000):
        await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


@pytest.fixture
def door(monkeypatch):
    """Serve the app with little patience; return what connects to it."""
    import uvicorn

    from pplm.apps.doors import connections

    monkeypatch.setattr(connections, "CLIENT_SECONDS", WAITS)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(connections.uvicorn_config(app, places=PLACES, grace_seconds=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    @contextmanager
    def connect(begins=b""):
        with socket.create_connection(listener.getsockname(), timeout=20) as client:
            client.sendall(begins)
            yield client

    yield connect
    server.should_exit = True
    thread.join(10)
    listener.close()


def until_closed(client, drip):
    """Send some bytes now and then until the door closes the connection; return what came before."""
    client.settimeout(WAITS / 10)
    got, end = b"", time.monotonic() + 20 * WAITS
    while time.monotonic() < end:
        with suppress(TimeoutError):
            try:
                client.sendall(drip)
                if not (data := client.recv(65536)):
                    return got
            except ConnectionError:
                return got
            got += data
    raise AssertionError(f"the connection stays open; it got {got[:200]!r}")


@pytest.mark.parametrize(
    ("begins", "drip", "answers"),
    [
        (b"", b"", 0),
        (b"", b"G", 0),
        (HEAD, b"X: y\r\n", 0),
        (HEAD + b"\r\n", HEAD[:1], 1),
        (HEAD + b"\r\n" + HEAD + b"\r\n" + HEAD, b"X: y\r\n", 2),
        (HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 1),
    ],
    ids=["nothing", "a byte at a time", "a line at a time", "a second request", "several at once", "an unread body"],
)
def test_a_client_that_sends_too_slowly_loses_its_place(door, begins, drip, answers):
    with door(begins) as client:
        assert until_closed(client, drip).count(b"HTTP/1.1 200") == answers


def test_clients_that_send_nothing_shut_nobody_out_for_long(door):
    def status():
        with door(HEAD + b"Connection: close\r\n\r\n") as client:
            return client.recv(65536).split()[1]

    with ExitStack() as idle:
        for _ in range(PLACES):
            idle.enter_context(door())
        assert status() == b"503"
        time.sleep(2 * WAITS)
        assert status() == b"200"


def test_a_client_that_does_not_take_its_answer_loses_its_place(door):
    with door(HEAD.replace(b"/", b"/0/50000000", 1) + b"\r\n") as client:
        time.sleep(3 * WAITS)
        assert len(until_closed(client, b"")) < 50_000_000


def test_an_answer_takes_its_time_and_so_may_a_client_that_goes_on_reading(door):
    with door(HEAD.replace(b"/", f"/{2 * WAITS}/3000000".encode(), 1) + b"Connection: close\r\n\r\n") as client:
        got = b""
        while data := client.recv(200_000):
            got += data
            time.sleep(WAITS / 10)
        assert got.count(b"x") == 3_000_000
