"""Conversations on the web page: what they answer, what can be replied to, and how they are shown."""

from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from browser import require
from web_texts import texts, written

import pplm
from attribute_models import BagOfWords
from pplm.apps.web.request import PageRequest
from pplm.apps.web.visits import Visits

TALK = PageRequest(
    prompt="the cat", chat=True, bags=("cats",), conversation=("a star", "the moon"), samples=2, length=5
)


def shown(served, request):
    """Return what the page shows at the end of a request."""
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.controls import values_of_request
    from pplm.apps.web.handlers import Page

    page, visitor = Page(served, Visits(60), None), SimpleNamespace(session_hash="a")
    page.begin(visitor)
    return list(page.write(visitor, *values_of_request(request)))


def test_a_chat_answers_the_prompt_as_a_message(served):
    assert served.chat
    request = PageRequest(prompt="the cat", chat=True, system="Be a dog", length=4)
    ((_, _, text),) = texts(written(served, request)[-1])
    messages = [{"role": "system", "content": "Be a dog"}, {"role": "user", "content": "the cat"}]
    how = {"seed": 0, "max_new_tokens": 4, "do_sample": True, "top_k": 10}
    assert text.endswith(pplm.generate(served.model, served.tokenizer, messages, **how)[0].completion)


def test_a_conversation_goes_on_steered_and_unsteered_alike(served):
    messages = [
        {"role": "user", "content": "a star"}, {"role": "assistant", "content": "the moon"},
        {"role": "user", "content": "the cat"},
    ]  # fmt: skip
    bag = BagOfWords.from_words(["cat", "star", "moon"], served.tokenizer, name="cats")
    how = {"num_samples": 2, "seed": 0, "max_new_tokens": 5, "do_sample": True, "top_k": 10}
    steering = pplm.SteeringConfig.for_attributes([bag], strength=0.5)
    plain = pplm.generate(served.model, served.tokenizer, messages, **how)
    steered = pplm.generate(served.model, served.tokenizer, messages, attributes=[bag], steering=steering, **how)
    found = written(served, TALK)[-1].document["texts"]
    expected = [text.completion for pair in zip(steered, plain, strict=True) for text in pair]
    assert [text["completion"] for text in found] == expected


@pytest.mark.parametrize(
    ("how", "label"),
    [
        ({}, "Reply to the first steered answer"),
        ({"samples": 1}, "Reply to the steered answer"),
        ({"samples": 1, "bags": ()}, "Reply to the answer"),
    ],
)
def test_what_a_reply_goes_on_from_is_the_first_text(served, how, label):
    request = replace(TALK, **how)
    first = written(served, request)[-1].document["texts"][0]
    assert first["steered"] is bool(request.bags)
    last = shown(served, request)[-1]
    assert last.following == ["a star", "the moon", "the cat", first["completion"].strip()]
    assert (last.reply["visible"], last.reply["value"]) == (True, label)


def test_a_text_that_is_no_chat_s_cannot_be_replied_to(served):
    last = shown(served, PageRequest(prompt="the cat", length=2))[-1]
    assert (last.following, last.reply["visible"]) == ([], False)


def test_a_conversation_that_is_full_or_too_long_for_a_link_says_so(served, monkeypatch):
    request = replace(TALK, conversation=("a", "b") * 16, bags=(), samples=1)
    last = shown(served, request)[-1]
    assert (last.following, last.reply["visible"]) == ([], False)
    assert "This cannot be replied to: a conversation may have at most 32 messages" in last.status
    monkeypatch.setattr("pplm.apps.web.link.LONGEST_LINK", 60)
    first, *_, last = shown(served, TALK)
    assert first.query == "?"
    assert "the moon" in first.command
    for one in (first, last):
        assert "These settings have no link: a link may have at most 60 characters; this one has 92" in one.status
    assert last.following


def test_a_reply_clears_the_prompt_unless_the_next_message_is_there_already():
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.handlers import Page

    page = Page(None, None, None)
    assert page.reply(["the cat", "a star"], "the cat")[:4] == (["the cat", "a star"], [], "", True)
    assert page.reply(["the cat", "a star"], "And why?")[:4] == (["the cat", "a star"], [], "And why?", True)


def test_a_new_conversation_ends_the_answer_that_is_being_written_and_that_cannot_be_replied_to(served):
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.controls import values_of_request
    from pplm.apps.web.handlers import Page

    page, visitor = Page(served, Visits(60), None), SimpleNamespace(session_hash="a")
    page.begin(visitor)
    changes = page.write(visitor, *values_of_request(replace(TALK, length=100)))
    next(changes)
    assert page.forget(visitor)[:2] == ([], [])
    *_, last = changes
    assert "Stopped" in last.status
    assert (last.following, last.reply["visible"]) == ([], False)


def test_a_conversation_is_shown_as_text_with_its_roles_where_a_chat_is():
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.handlers import Page

    page = Page(None, None, None)
    block, said = page.show_conversation(True, ["<img src=x>", "</dd>\x1d<script>"])
    assert block["visible"]
    assert "<dt>You</dt><dd>&lt;img src=x&gt;</dd><dt>Model</dt><dd>&lt;/dd&gt;\ufffd&lt;script&gt;</dd>" in said
    assert not page.show_conversation(False, ["a", "b"])[0]["visible"]
    assert not page.show_conversation(True, [])[0]["visible"]
