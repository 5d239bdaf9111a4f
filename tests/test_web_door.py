"""Who gets to the web page and what of gradio's they reach; its command line; its place in a Space."""

import asyncio
import base64
import json
from functools import partial
from importlib.util import find_spec

import pytest
from browser import require

from pplm.apps.doors.key import ApiKey
from pplm.errors import InputError

KEY = ApiKey("a-key-of-some-length")


@pytest.fixture(autouse=True)
def gradio():
    require(find_spec("gradio"), "the package gradio (the extra `web`)")


async def inner(scope, receive, send, headers=()):
    """Answer everything, after reading the body: what the guard stands before."""
    size = 0
    while scope["method"] == "POST":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b"behind %d" % size})


class Checker:
    """Refuses the prompt "bad", in a link and among values."""

    def link(self, pairs):
        return "a bad link" if ("prompt", "bad") in pairs else ""

    def values(self, body):
        return "<b>bad</b> & 'wrong'" if "bad" in body["data"] else ""


def ask(path, method="GET", *, query=b"", headers=(), bodies=(b"",), key=None, answered=()):
    """Send one request through the guard; return the answer's status, headers and text."""
    from pplm.apps.web.guard import Guard

    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    messages[-1]["more_body"] = False

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }  # fmt: skip
    behind = partial(inner, headers=answered)
    asyncio.run(Guard(behind, Checker(), key=key, frames=("https://example.com",))(scope, receive, send))
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, sent[-1]["body"].decode()


JSON = ("Content-Type", "application/json")


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/assets/index-1a2b.js", "/gradio_api/heartbeat/abc1"])
def test_what_the_page_is_made_of_is_let_through(path):
    assert ask(path)[2] == "behind 0"


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/gradio_api/upload", "POST"),
        ("/gradio_api/file=/etc/passwd", "GET"),
        ("/gradio_api/file/etc/passwd", "GET"),
        ("/gradio_api/proxy=https://example.com", "GET"),
        ("/gradio_api/info", "GET"),
        ("/gradio_api/call/write", "POST"),
        ("/gradio_api/run/write", "POST"),
        ("/gradio_api/runs", "GET"),
        ("/gradio_api/component_server", "POST"),
        ("/monitoring", "GET"),
        ("/assets/../../etc/passwd", "GET"),
        ("/static/..%2f..%2fetc/passwd", "GET"),
        ("/gradio_api/queue/join", "PUT"),
        ("/docs", "GET"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(path, method):
    assert ask(path, method, headers=[JSON, ("Content-Length", "0")])[::2] == (404, "There is nothing here.")


def test_a_page_loads_nothing_from_elsewhere_and_is_framed_by_nobody_else():
    policy = ask("/")[1]["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'self' https://example.com" in policy
    assert "*" not in policy


@pytest.mark.parametrize(
    ("headers", "bodies", "status"),
    [
        ([JSON, ("Content-Length", "2")], [b"{}"], 200),
        ([("Content-Type", "text/plain"), ("Content-Length", "2")], [b"{}"], 415),
        ([("Content-Length", "2")], [b"{}"], 415),
        ([JSON, ("Content-Length", "131073")], [b"{}"], 413),
        ([JSON, ("Content-Length", "-1")], [b"{}"], 413),
        ([JSON], [b"{}"], 413),
        ([JSON, ("Content-Length", "10")], [b"a" * 70_000, b"a" * 70_000], 413),
        ([JSON, ("Content-Length", "2")], [b"{]"], 400),
        ([JSON, ("Content-Length", "2")], [b"[]"], 400),
        ([JSON, ("Content-Length", "120000")], [b"[" * 120_000], 400),
    ],
)
def test_only_small_json_is_taken(headers, bodies, status):
    assert ask("/gradio_api/queue/join", "POST", headers=headers, bodies=bodies)[0] == status


@pytest.mark.parametrize(
    ("values", "status"),
    [
        (["The lake", True, 3, 0.5, None, ["space"], []], 200),
        ([{"path": "https://example.com/x", "meta": {"_type": "gradio.FileData"}}], 400),
        ([[{"path": "https://example.com/x", "meta": {"_type": "gradio.FileData"}}]], 400),
        ([[["space"]]], 400),
        ({"path": "https://example.com/x"}, 400),
    ],
)
def test_no_value_is_a_file_or_an_address_that_gradio_would_fetch(values, status):
    body = json.dumps({"fn_index": 1, "session_hash": "a", "data": values}).encode()
    headers = [JSON, ("Content-Length", str(len(body)))]
    found, _, text = ask("/gradio_api/queue/join", "POST", headers=headers, bodies=[body[:9], body[9:]])
    assert (found, text) == (status, f"behind {len(body)}" if status == 200 else text)


def test_values_that_the_page_cannot_use_are_answered_by_400_and_get_no_further():
    body = json.dumps({"fn_index": 1, "data": ["The lake", "bad"]}).encode()
    headers = [JSON, ("Content-Length", str(len(body)))]
    for path in ("queue/join", "run/predict"):
        status, answered, text = ask(f"/gradio_api/{path}", "POST", headers=headers, bodies=[body])
        assert (status, answered["content-type"]) == (400, "application/json")
        # Within the page gradio shows it as HTML.
        assert json.loads(text) == {"detail": "&lt;b&gt;bad&lt;/b&gt; &amp; 'wrong'"}


def test_a_link_that_the_page_cannot_use_is_answered_by_400_and_the_page():
    assert ask("/", query=b"prompt=good")[::2] == (200, "behind 0")
    assert ask("/", query=b"prompt=bad")[::2] == (400, "behind 0")
    assert ask("/", "HEAD", query=b"prompt=%62ad")[0] == 400
    assert ask("/config", query=b"prompt=bad")[0] == 200
    assert ask("/", query=b"prompt=bad", key=KEY)[0] == 401


def test_no_page_of_others_may_read_what_gradio_answers():
    answered = [
        (b"access-control-allow-origin", b"https://evil.example"),
        (b"access-control-allow-credentials", b"true"),
    ]
    headers = ask("/config", headers=[("Origin", "https://evil.example")], answered=answered)[1]
    assert "content-security-policy" in headers
    assert not [name for name in headers if name.startswith("access-control")]


def basic(password, name="anybody"):
    return ("Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/queue/data", "/nothing"])
def test_with_a_key_nobody_gets_further_without_it(path):
    for given in ([], [basic("wrong")], [basic(KEY.text[:-1])], [("Authorization", "Basic !")], [basic("", KEY.text)]):
        status, headers, text = ask(path, headers=given, key=KEY)
        assert (status, headers["www-authenticate"][:5]) == (401, "Basic")
        assert KEY.text not in text
    assert ask("/", headers=[basic(KEY.text)], key=KEY)[0] == 200
    assert ask("/", headers=[("Authorization", f"Bearer {KEY.text}")], key=KEY)[0] == 200


def test_health_needs_no_key():
    assert ask("/health", key=KEY)[::2] == (200, "ok")


def test_other_names_of_the_machine_are_refused():
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from pplm.apps.doors.address import allowed_hosts
    from pplm.apps.web.run import Settings, app_of  # noqa: F401 - the real app is opened in test_web_browser

    sent = []

    async def send(message):
        sent.append(message)

    for name, status in (("127.0.0.1:7860", 200), ("evil.example", 400), ("127.0.0.1.evil.example", 400)):
        app = TrustedHostMiddleware(inner, allowed_hosts=allowed_hosts(Settings().host))
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", name.encode())]}
        asyncio.run(app(scope, None, send))
        assert sent.pop(0)["status"] == status
        sent.clear()


def test_a_space_lets_everybody_in_and_any_other_place_nobody(monkeypatch):
    from pplm.apps.web.space import settings_of

    monkeypatch.delenv("PPLM_API_KEY", raising=False)
    own = settings_of({"SPACE_HOST": "someone-page.hf.space"})
    assert (own.host, own.hosts, own.frames) == ("127.0.0.1", (), ())
    space = settings_of({"SPACE_ID": "someone/page", "SPACE_HOST": "someone-page.hf.space"})
    assert (space.host, space.port, space.hosts) == ("0.0.0.0", 7860, ("someone-page.hf.space",))  # noqa: S104
    assert space.frames == ("https://huggingface.co",)
    monkeypatch.setenv("PPLM_API_KEY", "short")
    with pytest.raises(InputError, match="the API key must be"):
        settings_of({})


def test_without_the_extra_the_help_works_and_the_start_names_the_command(command, monkeypatch):
    monkeypatch.setattr("pplm.apps.doors.address.find_spec", lambda _: None)
    code, out, _ = command("web", "--help")
    assert code == 0
    assert "--host" in out
    code, out, err = command("web")
    assert (code, out) == (2, "")
    assert err == 'Error: pplm web needs gradio, yaml; install it with: pip install "pplm[web]"\n'


def test_off_loopback_without_a_key_the_page_warns(command, monkeypatch):
    monkeypatch.delenv("PPLM_API_KEY", raising=False)
    served = []
    monkeypatch.setattr("pplm.apps.web.run.serve", lambda *given, **_: served.append(given[1]))
    code, _, err = command("web", "--host", "0.0.0.0")  # noqa: S104
    assert code == 0
    assert err.startswith("Warning: --host 0.0.0.0 lets other machines in, and there is no key; set PPLM_API_KEY")
    monkeypatch.setenv("PPLM_API_KEY", KEY.text)
    assert command("web", "--host", "0.0.0.0")[::2] == (0, "")  # noqa: S104
    assert command("web")[::2] == (0, "")
    assert [one.key for one in served] == [None, KEY, KEY]


def test_a_port_that_is_taken_is_refused_before_the_model_is_loaded(command):
    from pplm.apps.doors.address import listen

    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, _, err = command("web", "--port", port, "--model", "/no/such/model")
    assert code == 2
    assert f"--port {port} cannot be used" in err


def test_gradio_is_told_to_send_nothing():
    import gradio.analytics

    import pplm.apps.web.run  # noqa: F401

    assert not gradio.analytics.analytics_enabled()
