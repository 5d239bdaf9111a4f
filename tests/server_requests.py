"""Unsteered requests to the server, and the form of its errors."""

BODY = {"model": "tiny", "prompt": "The sea", "max_tokens": 2, "seed": 0}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "The sea?"}], "max_tokens": 2, "seed": 0}
KEY = "a-key-of-some-length"


def error(reply, status=400):
    assert reply.status_code == status, reply.text
    found = reply.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert len(found["message"]) < 500
    return found
