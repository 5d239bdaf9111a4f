"""The server's texts: each what it is alone, whatever shares a batch with it, whole or piece by piece."""

import asyncio
import json
import time

import pytest
from server_clients import alone, call_and_leave, events, gate, needs_server, running, serving  # noqa: F401

import pplm

needs_server()

WORDS = {"words": ["moon", "star", "sun"], "strength": 0.7}
BODY = {"model": "tiny", "prompt": "The sea is", "seed": 3, "max_tokens": 8, "steering": WORDS}


def ask(app, *bodies, path="/v1/completions"):
    """Send requests that arrive together; return the replies."""

    async def send():
        async with running(app) as client:
            return await asyncio.gather(*(client.post(path, json=body) for body in bodies))

    return asyncio.run(send())


def texts(reply):
    assert reply.status_code == 200, reply.text
    return [choice["text"] for choice in reply.json()["choices"]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"steering": None},
        {"n": 3},
        {"temperature": 0},
        {"temperature": 1.5, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.2},
        {"steering": {"bags": ["space:2"], "avoid_words": ["sea"], "step_size": 0.3, "num_iterations": 2}},
        {"steering": {"words": ["moon"], "preset": "paper"}},
        {"steering": {"words": ["moon"], "target": {"words": 0.3}}},
    ],
)
def test_a_completion_is_what_generate_makes(gpt2, tokenizer, changes):
    body = BODY | changes
    (reply,) = ask(serving(gpt2, tokenizer), body)
    own = alone(gpt2, tokenizer, body)
    assert texts(reply) == [text.completion for text in own]
    found = reply.json()
    assert found["usage"]["completion_tokens"] == sum(len(text.token_ids) for text in own)
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["pplm"]["seed"] == 3


def test_steering_changes_the_text(gpt2, tokenizer):
    steered, plain = ask(serving(gpt2, tokenizer), BODY, BODY | {"steering": None})
    assert texts(steered) != texts(plain)


def test_an_answer_in_a_chat_is_what_generate_makes(chat):
    body = {**BODY, "messages": [{"role": "system", "content": "Be a dog"}, {"role": "user", "content": "The sea?"}]}
    body.pop("prompt")
    parts = [{"type": "text", "text": "The "}, {"type": "text", "text": "sea?"}]
    in_parts = {**body, "messages": [{"role": "developer", "content": "Be a dog"}, {"role": "user", "content": parts}]}
    replies = ask(serving(*chat), body, in_parts, path="/v1/chat/completions")
    for reply in replies:
        assert reply.status_code == 200, reply.text
        choice = reply.json()["choices"][0]
        assert choice["message"]["content"] == alone(*chat, body)[0].completion
        assert choice["message"]["role"] == "assistant"


def test_requests_that_wait_share_a_batch_and_each_is_what_it_is_alone(gpt2, tokenizer, gate):  # noqa: F811
    prompts = ["The sea", "A cat and the moon", "Is it", "The star is a sun", "The sea", "sea sea sea sea sea"]
    bodies = [
        BODY | {"prompt": p, "seed": n % 4, "max_tokens": 3 + 4 * n, "n": 1 + n % 2} for n, p in enumerate(prompts)
    ]
    other = BODY | {"steering": {"words": ["cat"]}}
    replies = gathered(serving(gpt2, tokenizer), gate, [BODY, *bodies, other])
    for body, reply in zip([BODY, *bodies, other], replies, strict=True):
        assert texts(reply) == [text.completion for text in alone(gpt2, tokenizer, body)]
    assert [len(batch) for batch in gate.batches] == [1, sum(body["n"] for body in bodies), 1]


def gathered(app, gate, bodies):  # noqa: F811
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


def test_texts_that_fit_the_model_alone_and_not_together_take_turns(gpt2, tokenizer, gate):  # noqa: F811
    long_prompt = BODY | {"prompt": "sea " * 25, "max_tokens": 4}
    long_text = BODY | {"max_tokens": 50}
    replies = gathered(serving(gpt2, tokenizer), gate, [BODY, long_prompt, long_text])
    assert [len(batch) for batch in gate.batches] == [1, 1, 1]
    assert texts(replies[1]) == [alone(gpt2, tokenizer, long_prompt)[0].completion]
    assert texts(replies[2]) == [alone(gpt2, tokenizer, long_text)[0].completion]


def test_a_batch_has_no_more_texts_than_it_may(gpt2, tokenizer, gate):  # noqa: F811
    app = serving(gpt2, tokenizer, limits={"max_batch_size": 3})
    replies = gathered(app, gate, [BODY, *[BODY | {"n": 2, "max_tokens": 2}] * 2, BODY | {"max_tokens": 2}])
    assert all(reply.status_code == 200 for reply in replies)
    assert [len(batch) for batch in gate.batches] == [1, 3, 2]


def test_a_request_that_fails_does_not_take_others_with_it(gpt2, tokenizer, gate, monkeypatch):  # noqa: F811
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


def test_the_pieces_of_a_stream_are_the_text(gpt2, tokenizer):
    body = BODY | {"n": 2, "max_tokens": 12}
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    (reply,) = ask(serving(gpt2, tokenizer), body | asked)
    assert reply.headers["content-type"].startswith("text/event-stream")
    *pieces, last = events(reply.text)
    own = alone(gpt2, tokenizer, body)
    for index in range(2):
        mine = [piece["choices"][0] for piece in pieces if piece["choices"][0]["index"] == index]
        assert "".join(piece["text"] for piece in mine) == own[index].completion
        assert [piece["finish_reason"] for piece in mine] == [None] * (len(mine) - 1) + ["length"]
        assert len(mine) > 2
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 24
    assert len({piece["id"] for piece in [*pieces, last]}) == 1


def test_a_stream_of_a_chat_begins_with_its_role(chat):
    body = BODY | {"messages": [{"role": "user", "content": "The sea?"}], "stream": True}
    body.pop("prompt")
    (reply,) = ask(serving(*chat), body, path="/v1/chat/completions")
    pieces = [piece["choices"][0] for piece in events(reply.text)]
    assert pieces[0]["delta"] == {"role": "assistant", "content": ""}
    assert pieces[-1]["delta"] == {}
    assert "".join(piece["delta"].get("content", "") for piece in pieces) == alone(*chat, body)[0].completion


def test_a_stop_string_ends_a_text_and_is_not_shown(gpt2, tokenizer):
    body = BODY | {"max_tokens": 20}
    whole = alone(gpt2, tokenizer, body)[0].completion
    stop = whole[9:13]
    cut = whole[: whole.index(stop)]
    asked = body | {"stop": ["never in there", stop]}
    reply, stream, neighbour = ask(serving(gpt2, tokenizer), asked, asked | {"stream": True}, body)
    assert texts(reply) == [cut]
    assert reply.json()["choices"][0]["finish_reason"] == "stop"
    assert reply.json()["usage"]["completion_tokens"] < 20
    pieces = [piece["choices"][0] for piece in events(stream.text)]
    assert "".join(piece["text"] for piece in pieces) == cut
    assert pieces[-1]["finish_reason"] == "stop"
    assert texts(neighbour) == [whole]


def test_a_text_that_ends_by_itself_says_so(gpt2, tokenizer):
    bodies = [BODY | {"seed": seed, "max_tokens": 40, "top_k": 0, "temperature": 2.0} for seed in range(40)]
    ended = next(body for body in bodies if len(alone(gpt2, tokenizer, body)[0].token_ids) < 40)
    own = alone(gpt2, tokenizer, ended)[0]
    (reply,) = ask(serving(gpt2, tokenizer), ended)
    assert texts(reply) == [own.completion]
    assert reply.json()["choices"][0]["finish_reason"] == "stop"
    assert reply.json()["usage"]["completion_tokens"] == len(own.token_ids)


def test_a_request_without_a_seed_is_told_which_one_it_got(gpt2, tokenizer):
    body = {name: value for name, value in BODY.items() if name != "seed"}
    first, second = ask(serving(gpt2, tokenizer), body, body)
    seed = first.json()["pplm"]["seed"]
    assert seed != second.json()["pplm"]["seed"]
    assert texts(first) == [alone(gpt2, tokenizer, body | {"seed": seed})[0].completion]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(gpt2, tokenizer, gate, stream):  # noqa: F811
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


def test_a_request_waits_no_longer_than_it_may(gpt2, tokenizer, gate):  # noqa: F811
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


def test_a_server_that_stops_ends_what_runs_and_refuses_what_waits(gpt2, tokenizer, gate):  # noqa: F811
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
