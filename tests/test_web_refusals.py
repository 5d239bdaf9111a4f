"""What `pplm web` answers to links and values that it cannot use: 400, and nothing of a file."""

import json
import math
import re
from dataclasses import fields
from importlib.util import find_spec
from urllib.parse import urlencode

import httpx2
import pytest
from browser import require
from web_server import opened

from pplm.apps.web.request import PageRequest

pytestmark = pytest.mark.slow
BAD = ["../../etc/passwd", "/etc/passwd", "openai-community/gpt2", "<img src=x onerror=alert(1)>"]
VALUES = [
    ({"length": 201}, "length must be at most 200 here; got 201"),
    ({"samples": 10**30}, "samples must be at most 4 here"),
    ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
    ({"strength": 1e300}, "strength must be"),
    ({"prompt": "a" * 2001}, "prompt may have at most 2000 characters"),
    ({"words": ",".join(map(str, range(101)))}, "words may hold at most 100; got 101"),
    ({"bags": ["cats"] * 9}, "bags may hold at most 8; got 9"),
    ({"bags": "cats"}, "bags must be a list; got str"),
    ({"chat": True, "conversation": ["Hi", "a" * 8000]}, "8000 characters in all; this one has 2 of 8002"),
    ({"chat": True, "conversation": ["Hi"]}, "a list of messages, each followed by its answer"),
    ({"heads": 5}, "heads must be a list; got int"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Something that asks the page's server."""
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    folder = tmp_path_factory.mktemp("offers")
    (folder / "cats.txt").write_text("cat\nstar\n", encoding="utf-8")
    (folder / "offers.yaml").write_text("bags: {cats: cats.txt}\n", encoding="utf-8")
    with opened("--offers", str(folder / "offers.yaml")) as address, httpx2.Client(base_url=address, timeout=60) as one:
        yield one


def handler(page, target):
    """Return the number of the first handler that hears such an event."""
    config = json.loads(re.search(r"window.gradio_config = (.*?);\s*(window|</script>)", page.get("/").text)[1])
    return next(one["id"] for one in config["dependencies"] if one["targets"][0][1] == target)


def send(page, path, number, data):
    body = {"data": data, "fn_index": number, "session_hash": "stranger1"}
    return page.post(f"/gradio_api/{path}", json=body)


def values(**other):
    from pplm.apps.web.controls import values_of_request

    usual = dict(zip([one.name for one in fields(PageRequest)], values_of_request(PageRequest(length=1)), strict=True))
    return list({**usual, **other}.values())


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("field", ["bags", "avoid_bags", "heads"])
def test_names_of_files_and_of_the_hub_are_answered_by_400(page, field, name):
    shown = name.replace("<", "&lt;").replace(">", "&gt;")
    for path in ("queue/join", "run/predict"):
        answer = send(page, path, handler(page, "then"), values(**{field: [name]}))
        assert answer.status_code == 400
        what = field.removeprefix("avoid_").removesuffix("s")
        assert answer.json()["detail"].startswith(f"{what} '{shown}' is not offered here; choose one of ")
        assert "root:" not in answer.text
    answer = page.get("/?" + urlencode({"prompt": "a", field: name}))
    assert (answer.status_code, "gradio_config" in answer.text, "root:" in answer.text) == (400, True, False)


@pytest.mark.parametrize(("given", "message"), VALUES, ids=[list(given)[-1] for given, _ in VALUES])
def test_values_out_of_bounds_are_answered_by_400(page, given, message):
    answer = send(page, "queue/join", handler(page, "then"), values(**given))
    assert answer.status_code == 400
    assert message in answer.json()["detail"]
    assert page.get("/?" + urlencode(given, doseq=True)).status_code == (200 if given == {"bags": "cats"} else 400)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([9, 1], "frequency must be"),
        ([2, "a"], "a slider must be of type float"),
        ([2], "this takes 2 values; got 1"),
    ],
)
def test_a_wave_out_of_bounds_is_answered_by_400(page, data, message):
    answer = send(page, "queue/join", handler(page, "select"), data)
    assert answer.status_code == 400
    assert message in answer.json()["detail"]


def test_a_request_of_fewer_values_or_of_no_handler_is_answered_by_400(page):
    answer = send(page, "queue/join", handler(page, "then"), values()[:-1])
    assert (answer.status_code, "values" in answer.json()["detail"]) == (400, True)
    for number in (str(handler(page, "then")), float(handler(page, "then")), None, [1]):
        answer = send(page, "queue/join", number, values(bags=["/etc/passwd"]))
        assert (answer.status_code, answer.json()) == (400, {"detail": "fn_index must be a whole number"})
    for number in (-1, 1000, 10**30):
        for path in ("queue/join", "run/predict"):
            answer = send(page, path, number, [])
            assert (answer.status_code, "fn_index must be between 0 and" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("name", [None, 5, [], "", "\ud800", "<b>", "a" * 65])
def test_a_visitor_of_an_odd_name_is_answered_by_400(page, name):
    number = handler(page, "then")
    for body in ({"data": values(), "fn_index": number}, {"event_id": "a", "fn_index": number}):
        path = "queue/join" if "data" in body else "cancel"
        answer = page.post(
            f"/gradio_api/{path}",
            content=json.dumps({**body, "session_hash": name}),
            headers={"Content-Type": "application/json"},
        )
        assert (answer.status_code, answer.text) == (400, "The session_hash must be at most 64 letters and digits.")


@pytest.mark.parametrize("path", ["queue/join", "run/predict", "cancel", "reset"])
def test_fields_that_the_page_does_not_send_are_answered_by_400(page, path):
    usual = {"session_hash": "stranger1", "fn_index": 0, "data": []} if path in ("queue/join", "run/predict") else {}
    odd = [{name: value} for name in ("trigger_id", "event_id", "event_data")
           for value in (math.nan, "\ud800", {"\ud800": 1}, {"a": [math.nan]})]  # fmt: skip
    types = ({"trigger_id": "1"}, {"trigger_id": []}, {"event_id": 1}, {"event_id": {}})
    for own in (*odd, *types, {"simple_format": "x"}, {"batched": True}, {"n": math.nan}, {"\ud800": 1}):
        content, headers = json.dumps({**usual, **own}), {"Content-Type": "application/json"}
        answer = page.post(f"/gradio_api/{path}", content=content, headers=headers)
        assert (answer.status_code, answer.text) == (400, "The body's fields are not those of the page."), own


def test_the_stream_of_a_visitor_that_nobody_has_seen_ends_with_the_reason_and_no_traceback(page):
    answer = page.get("/gradio_api/queue/data?session_hash=nobody")
    assert (answer.status_code, '"session_not_found":true' in answer.text) == (200, True)


def test_what_the_page_offers_is_let_through(page):
    assert send(page, "queue/join", handler(page, "then"), values(bags=["cats"])).status_code == 200
    for link in ("", "?prompt=The+sea&bags=cats", "?__theme=dark", "?view=api"):
        assert page.get(f"/{link}").status_code == 200


def test_the_page_answers_to_its_own_names_only(page):
    assert page.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert "gradio_config" not in page.get("/", headers={"Host": "evil.example"}).text
