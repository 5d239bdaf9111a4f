"""What becomes of the server's requests that wait, leave, take too long or fail."""

import asyncio
import json
import time

import pytest
from server_clients import (
    BODY,
    alone,
    ask,
    call_and_leave,
    gathered,
    needs_server,
    number,
    running,
    serving,
    texts,
    until,
)

import pplm

needs_server()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(gpt2, tokenizer, gate, stream):
    app = serving(gpt2, tokenizer, limits={"max_waiting": 1})

    async def visit():
        async with running(app) as client:
            gate.opened.clear()
            gone = asyncio.Event()
            body = BODY | {"max_tokens": 50, "stream": stream}
            leaver = asyncio.create_task(call_and_leave(app, "/v1/completions", body, gone))
            await asyncio.to_thread(gate.reached.wait, 30)
            waits = asyncio.Event()
            waiter = asyncio.create_task(call_and_leave(app, "/v1/completions", BODY, waits))
            await until(client, "pplm_waiting_requests", 1)
            refused = await client.post("/v1/completions", json=BODY)
            waits.set()
            await waiter
            assert await number(client, "pplm_waiting_requests") == 0
            third = asyncio.create_task(client.post("/v1/completions", json=BODY))
            await until(client, "pplm_waiting_requests", 1)
            if not stream:
                gone.set()
                await leaver
            gate.opened.set()
            await leaver
            reply = await third
            return refused, reply, await number(client, "pplm_left_requests_total")

    refused, reply, left = asyncio.run(visit())
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.headers["retry-after"] == "1"
    assert texts(reply) == [alone(gpt2, tokenizer, BODY)[0].completion]
    assert left == 2
    assert gate.batches[0][0].answer.tokens < 50
    assert len(gate.batches) == 2


def test_a_request_waits_no_longer_than_it_may(gpt2, tokenizer, gate):
    app = serving(gpt2, tokenizer, limits={"max_seconds": 1})

    async def wait():
        async with running(app) as client:
            gate.opened.clear()
            begun = time.monotonic()
            replies = await asyncio.gather(*(client.post("/v1/completions", json=BODY) for _ in range(2)))
            seconds = time.monotonic() - begun
            left = await number(client, "pplm_left_requests_total")
            gate.opened.set()
            for _ in range(20):  # a second may be too short where many tests share a processor
                later = await client.post("/v1/completions", json=BODY)
                if later.status_code == 200:
                    break
            return seconds, replies, later, left

    seconds, replies, later, left = asyncio.run(wait())
    assert left == 0
    assert seconds < 20  # the gate gives way after 30
    assert [reply.status_code for reply in replies] == [503, 503]
    assert "within 1 seconds" in replies[0].json()["error"]["message"]
    assert alone(gpt2, tokenizer, BODY)[0].completion.startswith(*texts(later))


def test_a_text_ends_when_its_time_is_up(gpt2, tokenizer, monkeypatch):
    from pplm.apps.server.jobs import Job

    monkeypatch.setattr(Job, "late", property(lambda job: job.new_tokens >= 12))
    (reply,) = ask(serving(gpt2, tokenizer), BODY | {"max_tokens": 40})
    whole = alone(gpt2, tokenizer, BODY | {"max_tokens": 40})[0].completion
    assert 0 < len(texts(reply)[0]) < len(whole)
    assert whole.startswith(texts(reply)[0])
    assert reply.json()["usage"]["completion_tokens"] == 12
    assert reply.json()["choices"][0]["finish_reason"] == "length"


def test_a_text_whose_time_is_up_while_it_is_written_again_is_answered(gpt2, tokenizer, monkeypatch):
    from pplm.apps.server import writer
    from pplm.apps.server.jobs import Job

    write, again = writer.write_rows, []

    def twice(*arguments):
        *others, take = arguments
        write(*others, lambda new: take(new) or new.position == 5)  # as a batch that ran out of memory left it
        again.append(True)
        write(*others, take)

    monkeypatch.setattr(writer, "write_rows", twice)
    monkeypatch.setattr(Job, "late", property(lambda _: bool(again)))

    async def send():
        async with running(serving(gpt2, tokenizer)) as client:
            return await asyncio.wait_for(client.post("/v1/completions", json=BODY), 30)

    reply = asyncio.run(send())
    assert alone(gpt2, tokenizer, BODY)[0].completion.startswith(texts(reply)[0])
    assert reply.json()["usage"]["completion_tokens"] == 6
    assert reply.json()["choices"][0]["finish_reason"] == "length"


def test_a_request_that_fails_does_not_take_others_with_it(gpt2, tokenizer, gate, monkeypatch):
    from pplm.apps.server import writer

    write = writer.write_rows

    def some_fail(model, tokenizer, rows, way, attributes, on_token):
        if any(row.seed == 13 for row in rows):
            write(model, tokenizer, rows, way, attributes, lambda new: on_token(new) or new.position == 2)
            raise pplm.InputError("the steered distribution of new token 3 is not a number")
        write(model, tokenizer, rows, way, attributes, on_token)

    monkeypatch.setattr(writer, "write_rows", some_fail)
    bodies = [BODY, BODY, BODY | {"seed": 13}, BODY | {"seed": 4}]
    replies = gathered(serving(gpt2, tokenizer), gate, bodies)
    assert [reply.status_code for reply in replies] == [200, 200, 400, 200]
    assert "is not a number" in replies[2].json()["error"]["message"]
    for body, reply in zip(bodies, replies, strict=True):
        if body["seed"] != 13:
            assert texts(reply) == [alone(gpt2, tokenizer, body)[0].completion]


def test_a_defect_is_an_error_without_details_and_the_next_request_is_answered(gpt2, tokenizer, monkeypatch, caplog):
    from pplm.apps.server import writer

    write, calls = writer.write_rows, []

    def fails_once(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("secret")
        write(*arguments)

    monkeypatch.setattr(writer, "write_rows", fails_once)

    async def send():
        async with running(serving(gpt2, tokenizer)) as client:
            return [await client.post("/v1/completions", json=BODY) for _ in range(2)]

    first, second = asyncio.run(send())
    assert first.status_code == 500
    assert "secret" not in first.text
    assert json.loads(first.text)["error"]["type"] == "server_error"
    assert second.status_code == 200


def test_a_server_that_stops_ends_what_runs_and_refuses_what_waits(gpt2, tokenizer, gate):
    app = serving(gpt2, tokenizer)

    async def stop():
        async with running(app) as client:
            gate.opened.clear()
            replies = [asyncio.create_task(client.post("/v1/completions", json=BODY))]
            await asyncio.to_thread(gate.reached.wait, 30)
            replies.append(asyncio.create_task(client.post("/v1/completions", json=BODY)))
            await until(client, "pplm_waiting_requests", 1)
            asyncio.get_running_loop().call_later(0.3, gate.opened.set)
        return await asyncio.gather(*replies, return_exceptions=True)

    assert [getattr(reply, "status_code", reply) for reply in asyncio.run(stop())] == [503, 503]
