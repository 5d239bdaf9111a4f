"""The server's texts: each is what it is alone, whatever shares a batch with it."""

import pytest
from server_clients import BODY, alone, ask, gathered, needs_server, serving, texts

from pplm.text.prompts import read_prompt

needs_server()


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
    assert found["usage"]["prompt_tokens"] == len(
        read_prompt(gpt2, tokenizer, body["prompt"]).ids
    )  # once for all texts
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


def test_requests_that_wait_share_a_batch_and_each_is_what_it_is_alone(gpt2, tokenizer, gate):
    prompts = ["The sea", "A cat and the moon", "Is it", "The star is a sun", "The sea", "sea sea sea sea sea"]
    bodies = [
        BODY | {"prompt": p, "seed": n % 4, "max_tokens": 3 + 4 * n, "n": 1 + n % 2} for n, p in enumerate(prompts)
    ]
    other = BODY | {"steering": {"words": ["cat"]}}
    replies = gathered(serving(gpt2, tokenizer), gate, [BODY, *bodies, other])
    for body, reply in zip([BODY, *bodies, other], replies, strict=True):
        assert texts(reply) == [text.completion for text in alone(gpt2, tokenizer, body)]
    assert [len(batch) for batch in gate.batches] == [1, sum(body["n"] for body in bodies), 1]


def test_texts_that_fit_the_model_alone_and_not_together_take_turns(gpt2, tokenizer, gate):
    long_prompt = BODY | {"prompt": "sea " * 25, "max_tokens": 4}
    long_text = BODY | {"max_tokens": 50}
    replies = gathered(serving(gpt2, tokenizer), gate, [BODY, long_prompt, long_text])
    assert [len(batch) for batch in gate.batches] == [1, 1, 1]
    assert texts(replies[1]) == [alone(gpt2, tokenizer, long_prompt)[0].completion]
    assert texts(replies[2]) == [alone(gpt2, tokenizer, long_text)[0].completion]


def test_a_batch_has_no_more_texts_than_it_may(gpt2, tokenizer, gate):
    app = serving(gpt2, tokenizer, limits={"max_batch_size": 3})
    replies = gathered(app, gate, [BODY, *[BODY | {"n": 2, "max_tokens": 2}] * 2, BODY | {"max_tokens": 2}])
    assert all(reply.status_code == 200 for reply in replies)
    assert [len(batch) for batch in gate.batches] == [1, 3, 2]
