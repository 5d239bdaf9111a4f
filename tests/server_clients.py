"""Clients of a server that runs inside the tests: requests that come together, and clients that leave.

The fixtures `gate` and `client` are every test's: `conftest.py` makes this module a plugin of pytest.
"""

import asyncio
import json
import threading
import warnings
from contextlib import asynccontextmanager
from importlib.util import find_spec

import httpx2
import pytest
from browser import require

import pplm
from attribute_models.naming import AttributeChoice, KnownNames, name_attributes

WORDS = {"words": ["moon", "star", "sun"], "strength": 0.7}
BODY = {"model": "tiny", "prompt": "The sea is", "seed": 3, "max_tokens": 8, "steering": WORDS}
"""A steered request."""
HEADERS = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]


def needs_server():
    """Skip the tests of a module where the extra `serve` is not installed; fail where all is expected."""
    require(find_spec("fastapi") and find_spec("uvicorn") and find_spec("prometheus_client"), "the extra `serve`")


class Gate:
    """Holds the worker back before each batch while it is closed, and keeps what the batches were."""

    def __init__(self):
        self.opened, self.reached, self.batches = threading.Event(), threading.Event(), []
        self.opened.set()

    def pass_through(self, jobs):
        self.batches.append([row for job in jobs for row in job.rows])
        self.reached.set()
        assert self.opened.wait(30)


@pytest.fixture
def gate(monkeypatch):
    """Stand before the worker of every server that is made from now on."""
    from pplm.apps.server import run

    gate = Gate()

    class GatedWriter(run.Writer):
        def write(self, jobs):
            gate.pass_through(jobs)
            super().write(jobs)

    monkeypatch.setattr(run, "Writer", GatedWriter)
    yield gate
    gate.opened.set()


@pytest.fixture
def client(gpt2, tokenizer):
    """Return a client of a server with some settings; it forgets it after the test."""
    from starlette.testclient import TestClient

    clients = []

    def connect(parts=(gpt2, tokenizer), **options):
        app = serving(*parts, **options)
        clients.append(TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield connect
    for one in clients:
        one.__exit__(None, None, None)


@asynccontextmanager
async def running(app):
    """Let an app live; yield a client of it."""
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
            yield client


def serving(model, tokenizer, name="tiny", **settings):
    """Return the app that serves a model."""
    from pplm.apps.server.limits import Limits
    from pplm.apps.server.run import Settings, app_of

    return app_of(name, model, tokenizer, Settings(limits=Limits(**settings.pop("limits", {})), **settings))


def alone(model, tokenizer, body):
    """Return the texts of a request as `pplm.generate` makes them, with nothing else beside it."""
    asked = dict(body.get("steering") or {})
    lists = ("bags", "avoid_bags", "words", "avoid_words", "discriminators")
    choice = AttributeChoice(**{name: tuple(asked.pop(name)) for name in lists if name in asked})
    attributes = name_attributes(choice, model, tokenizer, known=KnownNames.shipped())
    warnings.simplefilter("ignore", pplm.SteeringWarning)  # pytest forgets it after each test
    presets = pplm.steering_presets(model)
    steering = pplm.SteeringConfig.for_attributes(attributes, presets=presets, **asked) if attributes else None
    drawn = {"do_sample": True, "top_k": 10}
    drawn |= {name: body[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty") if name in body}
    if body.get("temperature") == 0:
        drawn = {"do_sample": False}
    return pplm.generate(
        model, tokenizer, body.get("prompt") or body["messages"], attributes=attributes, steering=steering,
        num_samples=body.get("n", 1), seed=body["seed"], max_new_tokens=body["max_tokens"], **drawn,
    )  # fmt: skip


def events(text):
    """Return the JSON of a stream's events, checked for its end."""
    lines = [line for line in text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def call_and_leave(app, path, body, leaves):
    """Send a request and leave when `leaves` is set; return the parts of the reply that came."""
    sent = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    parts = []

    async def receive():
        if sent:
            return sent.pop()
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        parts.append(message)
        if message["type"] == "http.response.body" and len(parts) > 2:
            leaves.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
        "path": path, "raw_path": path.encode(), "query_string": b"", "headers": HEADERS, "scheme": "http",
        "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 30)
    return parts


def ask(app, *bodies, path="/v1/completions"):
    """Send requests that arrive together; return the replies."""

    async def send():
        async with running(app) as client:
            return await asyncio.gather(*(client.post(path, json=body) for body in bodies))

    return asyncio.run(send())


def texts(reply):
    assert reply.status_code == 200, reply.text
    return [choice["text"] for choice in reply.json()["choices"]]


def gathered(app, gate, bodies):
    """Send the first request, and the others while it is being answered."""

    async def send():
        async with running(app) as client:
            gate.opened.clear()
            first = asyncio.create_task(client.post("/v1/completions", json=bodies[0]))
            await asyncio.to_thread(gate.reached.wait, 30)
            others = []
            for body in bodies[1:]:
                others.append(asyncio.create_task(client.post("/v1/completions", json=body)))
                await until(client, "pplm_waiting_requests", len(others))
            gate.opened.set()
            return await asyncio.gather(first, *others)

    return asyncio.run(send())


async def until(client, name, value):
    """Wait until a number of the server's metrics has a value."""
    for _ in range(1000):
        if (await number(client, name)) == value:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} is {await number(client, name)} and not {value}")


async def number(client, name):
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))
