"""The server's streams, piece by piece, and where a stop string ends a text."""

from hypothesis import given, settings
from hypothesis import strategies as st
from server_clients import BODY, alone, ask, events, needs_server, serving, texts

from pplm.text.details import NewToken

needs_server()

from pplm.apps.server.answers import Answer  # noqa: E402


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
    assert {str(piece["usage"]) for piece in pieces} == {"None"}  # the count comes once, at the end
    assert last["usage"]["completion_tokens"] == 24
    assert len({piece["id"] for piece in [*pieces, last]}) == 1


def test_a_stream_of_a_chat_begins_with_its_role(chat):
    body = BODY | {"messages": [{"role": "user", "content": "The sea?"}], "stream": True}
    body.pop("prompt")
    (reply,) = ask(serving(*chat), body, path="/v1/chat/completions")
    pieces = [piece["choices"][0] for piece in events(reply.text)]
    assert not any("usage" in event for event in events(reply.text))
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
