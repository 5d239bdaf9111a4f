"""Who may talk to the server, what strangers may name, and what it keeps of their texts: nothing."""

import logging
from pathlib import Path

import pytest
from server_clients import needs_server
from server_requests import BODY, KEY, error

import attribute_models
from pplm import InputError
from pplm.apps.doors.key import ApiKey

needs_server()

from pplm.apps.server.run import Settings  # noqa: E402


def test_a_key_opens_all_and_health_alone_is_open(client):
    server = client(key=ApiKey(KEY))
    paths = ("/v1/models", "/v1/models/tiny", "/metrics", "/nowhere")
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
        for path in paths:
            refused = server.get(path, headers=header)
            assert error(refused, 401)["code"] == "invalid_api_key"
            assert refused.headers["www-authenticate"] == "Bearer"
        assert error(server.post("/v1/completions", json=BODY, headers=header), 401)
    assert server.get("/health").json() == {"status": "ok"}
    right = {"authorization": f"Bearer {KEY}"}
    assert [server.get(path, headers=right).status_code for path in paths] == [200, 200, 200, 404]
    assert server.post("/v1/completions", json=BODY, headers=right).status_code == 200


def test_a_server_that_others_reach_needs_a_key():
    with pytest.raises(InputError, match="needs an API key"):
        Settings(host="0.0.0.0")  # noqa: S104
    Settings(host="0.0.0.0", key=ApiKey(KEY))  # noqa: S104


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
    allowed = open_.options("/v1/completions", headers=asks)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://a.org")
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    other = open_.options("/v1/completions", headers=asks | {"origin": "https://b.org"})
    assert "access-control-allow-origin" not in other.headers


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
