"""What the server's clients may send, and how it is refused: by name and in OpenAI's form."""

import json
import re

import pytest
from server_clients import needs_server, serving
from server_requests import BODY, CHAT, error

from attribute_models.naming import KnownNames
from pplm import InputError
from pplm.apps.doors.offers import Offers

needs_server()

from pplm.apps.server.limits import Limits  # noqa: E402
from pplm.apps.server.schema import NOT_SERVED  # noqa: E402


@pytest.mark.parametrize("name", sorted(NOT_SERVED))
def test_a_field_that_is_not_served_is_refused_by_name_unless_it_asks_for_nothing(client, name):
    server = client()
    found = error(server.post("/v1/completions", json=BODY | {name: {"some": "thing"}}))
    assert (found["param"], found["code"]) == (name, "unsupported_parameter")
    assert found["message"] == f"{name} is not served here; leave it out"
    assert found["type"] == "invalid_request_error"
    for nothing in (None, *NOT_SERVED[name]):
        assert server.post("/v1/completions", json=BODY | {name: nothing}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "param", "needle"),
    [
        ({"best": 1}, "best", "best is not a field that is served here"),
        ({"max_completion_tokens": 1}, "max_completion_tokens", "is not a field"),
        ({"top-p": 1}, "top-p", "top-p is not a field"),
        ({"str": 1}, "str", "str is not a field"),
        ({"x" * 200: 1}, "x" * 100, "x is not a field"),
        ({"prompt": None}, "prompt", "Field required"),
        ({"prompt": [5, 9]}, "prompt.0", "valid string"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": ["The"] * 9}, "prompt", "at most 8 texts"),
        ({"prompt": "sea " * 70}, None, "needs .* positions, the model has 64"),
        ({"prompt": "\ud800"}, "prompt", "prompt"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 513}, "max_tokens", "may be at most 512 here; got 513"),
        ({"max_tokens": "2"}, "max_tokens", "valid integer"),
        ({"max_tokens": 60}, None, "positions, the model has 64"),
        ({"n": 9}, "n", "at most 8 texts; got 9"),
        ({"n": 5, "prompt": ["The", "A"]}, "n", "at most 8 texts; got 10"),
        ({"n": 2, "temperature": 0}, "n", "would all be the same"),
        ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"top_k": -1}, "top_k", "greater than or equal to 0"),
        ({"repetition_penalty": 0}, "repetition_penalty", "greater than 0"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**63}, "seed", "less than or equal"),
        ({"stop": ""}, "stop.0", "at least 1 character"),
        ({"stop": "x" * 101}, "stop.0", "at most 100 characters"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"stream_options": {"other": 1}}, "stream_options.other", "is not a field"),
        ({"steering": ["space"]}, "steering", "valid dictionary"),
        ({"steering": {"strength": 0.5}}, "steering", "steers towards nothing"),
        ({"steering": {"words": ["moon"], "strength": 2}}, "steering", "strength must be finite and between 0 and 1"),
        ({"steering": {"words": ["moon"], "strength": 0.5, "step_size": 1.0}}, "steering", "leave out one of the two"),
        ({"steering": {"words": ["moon"], "target": {"space": 0.1}}}, "steering", "space"),
        ({"steering": {"words": ["moon"], "steps": {}}}, "steering", "has no field 'steps'"),
        ({"steering": {"words": ["\ud800"]}}, "steering", "words"),
        ({"steering": {"words": [""]}}, "steering", "empty word"),
        ({"steering": {"discriminators": ["sentiment:positive"]}}, "steering", "sentiment"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(client, changes, param, needle):
    body = {name: value for name, value in (BODY | changes).items() if value is not None}
    found = error(
        client().post("/v1/completions", content=json.dumps(body), headers={"content-type": "application/json"})
    )
    assert found["param"] == param
    assert re.search(needle, found["message"]), found["message"]


@pytest.mark.parametrize(
    ("changes", "needle"),
    [
        ({"messages": []}, "at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content: "),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name is not a field"),
        ({"messages": [{"role": "user", "content": ""}]}, "content"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "ends with the assistant's own message"),
        ({"messages": [{"role": "user", "content": "x"}] * 201}, "at most 200 items"),
        ({"max_completion_tokens": 3}, "max_tokens and max_completion_tokens differ"),
        ({"max_tokens": None, "max_completion_tokens": 513}, "max_completion_tokens may be at most 512 here; got 513"),
        ({"tools": [{"type": "function"}]}, "tools is not served here"),
        ({"logprobs": 0}, "logprobs is not served here"),
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused_in_a_sentence(client, chat, changes, needle):
    assert needle in error(client(chat).post("/v1/chat/completions", json=CHAT | changes))["message"]


def test_a_model_without_a_chat_template_says_what_to_call_instead(client):
    assert "use /v1/completions" in error(client().post("/v1/chat/completions", json=CHAT))["message"]


def test_an_answer_is_as_long_as_it_may_be_where_nothing_is_said(client, chat, gpt2, tokenizer):
    server = client(chat, limits={"max_tokens": 9})
    longest = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    for body, tokens in ((longest, 9), (longest | {"max_completion_tokens": 3}, 3), (CHAT, 2)):
        assert server.post("/v1/chat/completions", json=body).json()["usage"]["completion_tokens"] == tokens
    positions = chat[0].config.n_positions
    long = {**longest, "messages": [{"role": "user", "content": "sea " * (positions - 60)}]}
    for steering, beyond in ({}, 0), ({"words": ["moon"], "strength": 0.5, "horizon_length": 3}, 2):
        usage = client(chat).post("/v1/chat/completions", json=long | {"steering": steering or None}).json()["usage"]
        assert usage["total_tokens"] == positions - beyond
    plain = client()
    assert plain.post("/v1/completions", json=BODY | {"max_tokens": None}).json()["usage"]["completion_tokens"] == 16


def test_a_body_has_bounds_and_is_json(client):
    server = client(limits={"max_body": 1000})
    large = json.dumps(BODY | {"prompt": "x" * 1000})
    headers = {"content-type": "application/json"}
    refused = server.post("/v1/completions", content=large, headers=headers)
    assert "at most 1000 bytes" in error(refused, 413)["message"]
    assert refused.headers["connection"] == "close"  # the rest of the body is not read
    parts = (part.encode() for part in (large[:600], large[600:]))
    assert error(server.post("/v1/completions", content=parts, headers=headers), 413)
    assert error(server.post("/v1/completions", content=json.dumps(BODY)), 415)
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert error(server.post("/v1/completions", content=json.dumps(BODY), headers={"content-type": kind}), 415)
    for content in ("{", "[]", '"x"', "[" * 900, "\xff", ""):
        assert error(server.post("/v1/completions", content=content.encode("latin-1"), headers=headers))
    assert server.post("/v1/completions", content=json.dumps(BODY), headers=headers).status_code == 200


def test_a_steered_model_is_one_of_the_models(client):
    offers = Offers(KnownNames.shipped(), {"sky": {"words": ["moon", "sun"], "strength": 0.7}})
    server = client(offers=offers)
    listed = server.get("/v1/models").json()["data"]
    assert [(one["id"], one["object"], one["steering"]) for one in listed] == [
        ("tiny", "model", {}),
        ("sky", "model", {"words": ["moon", "sun"], "strength": 0.7}),
    ]
    assert server.get("/v1/models/sky").json() == listed[1]

    def text(**changes):
        return server.post("/v1/completions", json=BODY | {"max_tokens": 12} | changes).json()["choices"][0]["text"]

    steering = {"words": ["moon", "sun"], "strength": 0.7}
    assert text(model="sky") == text(steering=steering) != text()
    assert text(model="sky", steering={"strength": 0.0}) == text()


def test_an_offer_that_the_model_cannot_use_keeps_the_server_from_starting(gpt2, tokenizer):
    for name, steering, needle in (
        ("sky", {"bags": ["sky"]}, "model 'sky': bag of words 'sky' is not available"),
        ("tiny", {"bags": ["space"]}, "'tiny' is the model itself"),
        ("glad", {"discriminators": ["sentiment:positive"]}, "model 'glad': "),
    ):
        with pytest.raises(InputError, match=needle):
            serving(gpt2, tokenizer, offers=Offers(KnownNames.shipped(), {name: steering}))


def test_errors_of_http_have_openai_s_form(client):
    server = client()
    assert error(server.get("/v1/nothing"), 404)["type"] == "not_found_error"
    assert error(server.get("/v1/completions"), 405)
    assert server.get("/docs").status_code == server.get("/openapi.json").status_code == 404


def test_limits_are_whole_numbers():
    with pytest.raises(InputError, match="--max-waiting must be a whole number of at least 1; got 0"):
        Limits(max_waiting=0)
