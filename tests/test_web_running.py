"""How the page's texts are written: in a thread, token by token, within a time, and by whom they are stopped."""

import threading
import time
from dataclasses import fields, replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from browser import require

import pplm
from attribute_models import BagOfWords
from attribute_models.naming import KnownNames
from pplm.apps.html import trace_fragment
from pplm.apps.web.request import PageRequest
from pplm.apps.web.running import Reins, write
from pplm.apps.web.served import Served
from pplm.apps.web.visits import Visits
from pplm.errors import InputError


@pytest.fixture(scope="module")
def served(chat, tmp_path_factory):
    model, tokenizer = chat
    path = tmp_path_factory.mktemp("lists") / "cats.txt"
    path.write_text("cat\nstar\nmoon\n", encoding="utf-8")
    return Served("tiny", model, tokenizer, known=KnownNames({"cats": path}, {}))


REQUEST = PageRequest(prompt="the cat", bags=("cats",), samples=2, length=12, seed=3)


def written(served, request, seconds=60.0):
    return list(write(served, request, Reins(seconds)))


def texts(progress):
    return [(text["sample"], text["steered"], text["text"]) for text in progress.document["texts"]]


def test_the_texts_are_those_of_generate_the_steered_one_beside_the_unsteered_one_of_each_sample(served):
    last = written(served, REQUEST)[-1]
    bag = BagOfWords.from_words(["cat", "star", "moon"], served.tokenizer, name="cats")
    how = {"num_samples": 2, "seed": 3, "max_new_tokens": 12, "do_sample": True, "top_k": 10}
    steering = pplm.SteeringConfig.for_attributes([bag], strength=0.5)
    plain = pplm.generate(served.model, served.tokenizer, "the cat", **how)
    steered = pplm.generate(served.model, served.tokenizer, "the cat", attributes=[bag], steering=steering, **how)
    assert last.ended == "done"
    assert texts(last) == [
        (0, True, steered[0].text), (0, False, plain[0].text), (1, True, steered[1].text), (1, False, plain[1].text),
    ]  # fmt: skip
    assert {text["steered"]: set(text["tokens"][0]["levels"]) for text in last.document["texts"]} == {
        True: {"cats"}, False: {"cats"},
    }  # fmt: skip
    assert "cats" in trace_fragment(last.document)


def test_what_is_shown_meanwhile_begins_as_the_texts_end(served, monkeypatch):
    monkeypatch.setattr("pplm.apps.web.running.PAUSE", 0.001)
    *before, last = written(served, REQUEST)
    assert len(before) > 3
    ends = {key[:2]: key[2] for key in texts(last)}
    lengths = []
    for progress in before:
        assert progress.ended == ""
        for sample, steered, text in texts(progress):
            assert ends[sample, steered].startswith(text)
        assert {(sample, steered) for sample, steered, _ in texts(progress)} == set(ends)
        lengths.append(sum(len(text["tokens"]) for text in progress.document["texts"]))
        trace_fragment(progress.document)
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_without_attributes_there_is_the_unsteered_text_alone(served):
    last = written(served, PageRequest(prompt="the cat", length=4))[-1]
    ((_, steered, text),) = texts(last)
    assert not steered
    assert text.startswith("the cat")


def test_at_strength_0_both_texts_are_shown_and_alike(served):
    last = written(served, PageRequest(prompt="the cat", bags=("cats",), strength=0, length=5))[-1]
    (_, first, steered), (_, second, plain) = texts(last)
    assert (first, second) == (True, False)
    assert steered == plain


def test_a_chat_answers_the_prompt_as_a_message(served):
    assert served.chat
    request = PageRequest(prompt="the cat", chat=True, system="Be a dog", length=4)
    ((_, _, text),) = texts(written(served, request)[-1])
    messages = [{"role": "system", "content": "Be a dog"}, {"role": "user", "content": "the cat"}]
    how = {"seed": 0, "max_new_tokens": 4, "do_sample": True, "top_k": 10}
    assert text.endswith(pplm.generate(served.model, served.tokenizer, messages, **how)[0].completion)


TALK = PageRequest(
    prompt="the cat", chat=True, bags=("cats",), conversation=("a star", "the moon"), samples=2, length=5
)


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


def shown(served, request):
    """Return what the page shows at the end of a request."""
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.controls import values_of_request
    from pplm.apps.web.handlers import Page

    page, visitor = Page(served, Visits(60), None), SimpleNamespace(session_hash="a")
    page.begin(visitor)
    return list(page.write(visitor, *values_of_request(request)))


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


def test_words_that_steering_cannot_begin_are_said(served):
    last = written(served, PageRequest(prompt="the cat", words=("cat", "dog", "mat"), length=2))[-1]
    assert ["steering can begin 1 of its 3 words; without dog, mat" in note for note in last.notes] == [True]
    assert written(served, PageRequest(prompt="the cat", words=("cat",), length=2))[-1].notes == ()


def test_stop_ends_the_texts_and_keeps_what_there_is(served, monkeypatch):
    monkeypatch.setattr("pplm.apps.web.running.PAUSE", 0.001)
    reins = Reins(60)
    progress = write(served, PageRequest(prompt="the cat", bags=("cats",), length=200), reins)
    next(progress)
    reins.stop()
    *_, last = progress
    assert last.ended == "stopped"
    assert 0 < len(last.document["texts"][0]["tokens"]) < 200


def test_the_time_ends_the_texts(served):
    last = written(served, PageRequest(prompt="the cat", bags=("cats",), length=200), seconds=0)[-1]
    assert last.ended == "time"
    assert len(last.document["texts"][0]["tokens"]) == 1


def test_closing_ends_the_thread(served, monkeypatch):
    monkeypatch.setattr("pplm.apps.web.running.PAUSE", 0.001)
    before = threading.active_count()
    progress = write(served, PageRequest(prompt="the cat", bags=("cats",), length=200), Reins(60))
    next(progress)
    assert threading.active_count() > before
    progress.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "openai-community/gpt2"])
def test_a_name_that_is_not_offered_opens_nothing(served, name):
    with pytest.raises(InputError, match="is not offered here; choose one of cats"):
        written(served, PageRequest(bags=(name,)))


def test_errors_name_no_path_of_the_operators(chat, tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("", encoding="utf-8")
    served = Served("tiny", *chat, known=KnownNames({"empty": path}, {}))
    with pytest.raises(InputError) as caught:
        written(served, PageRequest(bags=("empty",)))
    assert "secret" not in str(caught.value)


def test_visitors_that_nobody_has_seen_take_bounded_memory_and_end_no_text(monkeypatch):
    monkeypatch.setattr("pplm.apps.web.visits.MOST", 3)
    visits = Visits(60)
    writing = visits.begin("writing")
    writing.start()
    waiting = visits.begin("waiting")
    for number in range(50):
        visits.begin(f"made up {number}")
    assert visits.find("writing") is writing
    assert writing.why == ""
    assert visits.find("waiting") is not waiting
    assert sum(visits.find(f"made up {number}") is not None for number in range(50)) == 2


def test_two_requests_of_one_visitor_end_the_first():
    visits = Visits(60)
    first = visits.begin("a")
    other = visits.begin("b")
    second = visits.begin("a")
    assert (first.why, other.why, second.why) == ("stopped", "", "")
    visits.end("a", first)
    assert visits.find("a") is second
    assert visits.leave("a")
    assert second.why == "stopped"
    assert not visits.leave("a")
    assert other.why == ""


def test_the_page_writes_for_nobody_who_has_left(served):
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.handlers import Page, Shown

    page = Page(served, Visits(60), None)
    assert list(page.write(SimpleNamespace(session_hash="gone"))) == [Shown()]


def test_times_are_measured_from_the_start():
    reins = Reins(0.05)
    assert reins.why == ""
    reins.start()
    time.sleep(0.06)
    assert reins.why == "time"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bags", "cats", "bags must be a list; got str"),
        ("bags", 5, "bags must be a list; got int"),
        ("bags", [5], "must be text; got int"),
        ("words", ["cat"], "words must be text; got list"),
        ("prompt", {}, "prompt must be text; got dict"),
        ("conversation", "Hi", "conversation must be a list; got str"),
        ("chat", "yes", "chat must be of type bool"),
        ("samples", 1.5, "samples must be a whole number"),
        ("strength", None, "strength must be of type float"),
    ],
)
def test_values_that_no_control_sends_are_refused_in_words(name, value, message):
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.controls import request_of_values, values_of_request

    names = [field.name for field in fields(PageRequest)]
    values = values_of_request(REQUEST)
    assert request_of_values(values) == REQUEST
    values[names.index(name)] = value
    with pytest.raises(InputError) as caught:
        request_of_values(values)
    assert message in str(caught.value)


def test_an_interrupt_while_a_text_is_written_ends_the_process_without_an_abort(served, monkeypatch):
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    import uvicorn

    from pplm.apps.web import run, running

    ended, release = [], threading.Event()

    def interrupted(self, sockets):
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", interrupted)
    monkeypatch.setattr(run, "app_of", lambda *_: None)
    monkeypatch.setattr(run.os, "_exit", ended.append)
    monkeypatch.setattr(running._Work, "run", lambda _: release.wait(30))

    def serve():
        with pytest.raises(KeyboardInterrupt):
            run.serve(lambda: served, run.Settings(port=0), on_ready=lambda _: None)

    texts = running.write(served, PageRequest(), running.Reins(60))
    monkeypatch.setattr(running._Work, "document", lambda _: {})
    next(texts)
    serve()
    assert ended == [130]
    release.set()
    texts.close()
    serve()
    assert ended == [130]
