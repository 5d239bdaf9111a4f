"""What the server's clients may send, and how they are refused: by name, in OpenAI's form, and without a trace."""

import json
import logging
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from server_clients import events, needs_server, serving

needs_server()

from starlette.testclient import TestClient  # noqa: E402

import attribute_models  # noqa: E402
from attribute_models.naming import KnownNames  # noqa: E402
from pplm import InputError  # noqa: E402
from pplm.apps.doors.key import ApiKey  # noqa: E402
from pplm.apps.doors.offers import Offers  # noqa: E402
from pplm.apps.server.answers import Answer  # noqa: E402
from pplm.apps.server.limits import Limits  # noqa: E402
from pplm.apps.server.run import Settings  # noqa: E402
from pplm.apps.server.schema import NOT_SERVED  # noqa: E402
from pplm.text.details import NewToken  # noqa: E402

BODY = {"model": "tiny", "prompt": "The sea", "max_tokens": 2, "seed": 0}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "The sea?"}], "max_tokens": 2, "seed": 0}
KEY = "a-key-of-some-length"


@pytest.fixture
def client(gpt2, tokenizer):
    """Return a client of a server with some settings; it forgets it after the test."""
    clients = []

    def connect(parts=(gpt2, tokenizer), **options):
        app = serving(*parts, **options)
        clients.append(TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield connect
    for one in clients:
        one.__exit__(None, None, None)


def error(reply, status=400):
    assert reply.status_code == status, reply.text
    found = reply.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert len(found["message"]) < 500
    return found


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
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name is not a field"),
        ({"messages": [{"role": "user", "content": ""}]}, "content"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "ends with the assistant's own message"),
        ({"messages": [{"role": "user", "content": "x"}] * 201}, "at most 200 items"),
        ({"max_completion_tokens": 3}, "max_tokens and max_completion_tokens differ"),
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
    plain = client()
    assert plain.post("/v1/completions", json=BODY | {"max_tokens": None}).json()["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "openai-community/gpt2", "~/.bashrc", "space.txt"])
def test_strangers_name_no_path_and_no_hub_id(client, monkeypatch, name):
    server = client()

    def refuse(path, *_, **__):
        raise AssertionError(f"looked for {path}")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(attribute_models.naming, "local_path", refuse)
    for steering in ({"bags": [name]}, {"avoid_bags": [name]}, {"discriminators": [f"{name}:positive"]}):
        reply = server.post("/v1/completions", json=BODY | {"steering": steering})
        assert "is not available here; choose one of" in error(reply)["message"]
        assert "root:" not in reply.text
    reply = server.post("/v1/completions", json=BODY | {"model": name})
    assert error(reply)["code"] == "model_not_found"
    assert name not in reply.text
    assert error(server.get(f"/v1/models/{name}"), 404)


def test_the_words_of_a_stranger_are_words_whatever_they_look_like(client):
    steering = {"words": ["/etc/passwd", "moon"], "avoid_words": ["../x"], "strength": 0.5}
    assert client().post("/v1/completions", json=BODY | {"steering": steering}).status_code == 200


def test_a_warning_goes_to_the_client_every_time_and_not_into_the_log(client, capfd):
    server = client()
    body = BODY | {"steering": {"bags": ["space"], "strength": 0.5}}
    for _ in range(2):
        (warning,) = server.post("/v1/completions", json=body).json()["pplm"]["warnings"]
        assert warning.startswith("bag space: steering can begin")
    stream = events(server.post("/v1/completions", json=body | {"stream": True}).text)
    assert stream[-1]["pplm"]["warnings"] == [warning]
    assert "bag space" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("target", [0.9, 0.001])
def test_a_target_that_the_texts_miss_is_told_to_the_client(client, capfd, target):
    server = client()
    body = BODY | {"max_tokens": 4, "n": 2, "steering": {"words": ["moon", "star"], "target": target}}
    found = server.post("/v1/completions", json=body).json()["pplm"].get("warnings", [])
    stream = [event for event in events(server.post("/v1/completions", json=body | {"stream": True}).text)
              if event["choices"] and event["choices"][0]["finish_reason"]]  # fmt: skip
    assert [event["pplm"].get("warnings", []) for event in stream] == [[], found]
    missed = [f"target {target:g} of 'words' is not reached"] * (target > 0.5)
    assert [warning.partition(":")[0] for warning in found] == missed
    assert "not reached" not in "".join(capfd.readouterr())


def test_what_could_not_act_on_a_text_is_told_to_the_client(client, monkeypatch, capfd):
    steering = {"words": ["moon"], "avoid_words": ["sea"], "strength": 0.5}
    loss = attribute_models.BagOfWords.loss

    def loss_of_an_idle_bag(bag, step):
        return loss(bag, step) + (torch.inf if "moon" in bag.words else 0.0)

    monkeypatch.setattr(attribute_models.BagOfWords, "loss", loss_of_an_idle_bag)
    body = BODY | {"max_tokens": 4, "n": 2, "steering": steering, "stop": "zzz"}
    server = client()
    (told,) = server.post("/v1/completions", json=body).json()["pplm"]["warnings"]
    assert told.startswith("attribute 'words' could not act at any token of 2 of 2 texts")
    stream = [event for event in events(server.post("/v1/completions", json=body | {"stream": True}).text)
              if event["choices"] and event["choices"][0]["finish_reason"]]  # fmt: skip
    assert [event["pplm"].get("warnings", []) for event in stream] == [[], [told]]
    assert "could not act" not in "".join(capfd.readouterr())


def test_steering_that_moves_nothing_is_told_to_the_client(client, monkeypatch):
    loss = attribute_models.BagOfWords.loss
    monkeypatch.setattr(  # as with layers that pass no gradient on
        attribute_models.BagOfWords, "loss",
        lambda bag, step: loss(bag, step).detach() + 0.0 * step.log_probs.sum(1).nan_to_num(),
    )  # fmt: skip
    body = BODY | {"steering": {"words": ["moon"], "strength": 0.5}}
    (told,) = client().post("/v1/completions", json=body).json()["pplm"]["warnings"]
    assert told.startswith("the gradient of attribute 'words' is exactly zero")


@pytest.mark.filterwarnings("default")
def test_prompts_and_words_are_not_logged(client, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    server = client()
    server.post("/v1/completions", json=BODY | {"prompt": "a secret", "steering": {"words": ["secret"]}})
    server.post("/v1/completions", json=BODY | {"prompt": "secret " * 70})
    server.post("/v1/completions", json=BODY | {"model": "secret", "steering": {"bags": ["secret"]}})
    server.post("/v1/completions", content='{"secret"', headers={"content-type": "application/json"})
    logged = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    assert "secret" not in logged + "".join(capfd.readouterr())
    assert "secret" not in server.get("/metrics").text


def test_a_body_has_bounds_and_is_json(client):
    server = client(limits={"max_body": 1000})
    large = json.dumps(BODY | {"prompt": "x" * 1000})
    headers = {"content-type": "application/json"}
    assert "at most 1000 bytes" in error(server.post("/v1/completions", content=large, headers=headers), 413)["message"]
    parts = (part.encode() for part in (large[:600], large[600:]))
    assert error(server.post("/v1/completions", content=parts, headers=headers), 413)
    assert error(server.post("/v1/completions", content=json.dumps(BODY)), 415)
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert error(server.post("/v1/completions", content=json.dumps(BODY), headers={"content-type": kind}), 415)
    for content in ("{", "[]", '"x"', "[" * 900, "\xff", ""):
        assert error(server.post("/v1/completions", content=content.encode("latin-1"), headers=headers))
    assert server.post("/v1/completions", content=json.dumps(BODY), headers=headers).status_code == 200


def test_a_key_opens_all_and_health_alone_is_open(client):
    server = client(key=ApiKey(KEY))
    paths = ("/v1/models", "/v1/models/tiny", "/metrics", "/nowhere")
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
        for path in paths:
            assert error(server.get(path, headers=header), 401)["code"] == "invalid_api_key"
        assert error(server.post("/v1/completions", json=BODY, headers=header), 401)
    assert server.get("/health").json() == {"status": "ok"}
    right = {"authorization": f"Bearer {KEY}"}
    assert [server.get(path, headers=right).status_code for path in paths] == [200, 200, 200, 404]
    assert server.post("/v1/completions", json=BODY, headers=right).status_code == 200


def test_a_server_is_called_by_its_own_names(client):
    server = client(hosts=("pplm.example.com",))
    for host in ("127.0.0.1:8000", "localhost", "pplm.example.com", "[::1]:1"):
        assert server.get("/health", headers={"host": host}).status_code == 200
    for host in ("evil.example.com", "127.0.0.1.evil.com", "", "localhost@evil.com"):
        assert server.get("/health", headers={"host": host}).status_code == 400


def test_no_page_may_talk_to_the_server_unless_it_was_asked_for(client):
    asks = {"origin": "https://a.org", "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,authorization"}  # fmt: skip
    closed, open_ = client(), client(origins=("https://a.org",), key=ApiKey(KEY))
    assert "access-control-allow-origin" not in closed.options("/v1/completions", headers=asks).headers
    assert "access-control-allow-origin" not in closed.get("/v1/models", headers=asks).headers
    assert open_.options("/v1/completions", headers=asks).headers["access-control-allow-origin"] == "https://a.org"
    other = open_.options("/v1/completions", headers=asks | {"origin": "https://b.org"})
    assert "access-control-allow-origin" not in other.headers


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


def test_what_the_server_counts_is_prometheus_text(client):
    server = client()
    server.post("/v1/completions", json=BODY | {"n": 3})
    server.post("/v1/completions", json=BODY | {"n": 99})
    server.get("/a/secret/path")
    reply = server.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    lines = reply.text.splitlines()
    assert 'pplm_requests_total{path="/v1/completions",status="200"} 1.0' in lines
    assert 'pplm_requests_total{path="/v1/completions",status="400"} 1.0' in lines
    assert 'pplm_requests_total{path="other",status="404"} 1.0' in lines
    assert "pplm_new_tokens_total 6.0" in lines
    assert "pplm_batch_texts_sum 3.0" in lines
    assert "secret" not in reply.text


def test_errors_of_http_have_openai_s_form(client):
    server = client()
    assert error(server.get("/v1/nothing"), 404)["type"] == "not_found_error"
    assert error(server.get("/v1/completions"), 405)
    assert server.get("/docs").status_code == server.get("/openapi.json").status_code == 404


def test_a_server_that_others_reach_needs_a_key():
    with pytest.raises(InputError, match="needs an API key"):
        Settings(host="0.0.0.0")  # noqa: S104
    Settings(host="0.0.0.0", key=ApiKey(KEY))  # noqa: S104


def test_limits_are_whole_numbers():
    with pytest.raises(InputError, match="--max-waiting must be a whole number of at least 1; got 0"):
        Limits(max_waiting=0)


def new_token(position, text, *, finished=False):
    return NewToken(prompt_index=0, sample=0, steered=True, position=position, token_id=position, text=text,
                    finished=finished, details=None)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.text("ab", max_size=3), min_size=1, max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.booleans(),
)
def test_what_is_shown_of_a_text_ends_before_its_first_stop_string_wherever_its_tokens_are_cut(pieces, stops, again):
    answer, shown = Answer(stops), ""
    tokens = [new_token(n, piece, finished=n == len(pieces) - 1) for n, piece in enumerate(pieces)]
    for number, token in enumerate(tokens):
        shown += answer.add(token)
        if again:  # memory ran out, and the batch is written again
            assert [answer.add(old) for old in tokens[: number + 1]] == [""] * (number + 1)
        assert not any(stop in shown for stop in stops)
        if answer.finish is not None:
            break
    assert shown == answer.shown
    so_far = "".join(pieces[: number + 1])
    cuts = [so_far.index(stop) for stop in stops if stop in so_far]
    assert shown == so_far[: min(cuts, default=len(so_far))]
    assert answer.finish == ("stop" if cuts else "length")
    assert answer.has_ended(tokens[number])
