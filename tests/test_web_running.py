"""How the page's texts are written: in a thread, token by token, within a time, until they are stopped."""

import re
import threading
from dataclasses import fields
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from browser import require
from web_texts import texts, written

import pplm
from attribute_models import BagOfWords, Discriminator
from attribute_models.naming import KnownNames
from pplm.apps.html import trace_fragment
from pplm.apps.web.draft import Draft
from pplm.apps.web.request import PageRequest
from pplm.apps.web.running import Reins, write
from pplm.apps.web.served import Served
from pplm.apps.web.waves import WaveTab
from pplm.errors import InputError

REQUEST = PageRequest(prompt="the cat", bags=("cats",), samples=2, length=12, seed=3)


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


def test_a_text_that_is_begun_again_for_want_of_memory_is_shown_once():
    draft = Draft(PageRequest(prompt="the"), {})
    for position, text in ((0, " cat"), (1, " sat"), (0, " cat"), (1, " sat"), (2, " down")):
        details = SimpleNamespace(record=lambda text=text: {"text": text})
        draft.add(SimpleNamespace(sample=0, position=position, details=details), steered=False)
    assert [text["text"] for text in draft.document()["texts"]] == ["the cat sat down"]


def test_only_heads_that_fit_the_model_are_offered(chat, tmp_path):
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    Discriminator.from_weights(weight, torch.zeros(2), ["bad", "good"]).save(tmp_path / "taste")
    known = KnownNames.shipped().with_head("taste", tmp_path / "taste")
    assert Served("tiny", *chat, known=known).heads == ("taste:bad", "taste:good")


def test_the_distances_of_the_waves_are_those_of_the_network_alone_and_of_the_steered_one(monkeypatch):
    monkeypatch.setattr("pplm.apps.web.waves.SECONDS", 1)
    tab = WaveTab(epochs=1)
    for strength in (0, 1):
        picture = tab.picture(2.5, strength)
        alone, steered = map(float, re.search(r"is ([\d.]+) for .*?<strong>([\d.]+)</strong>", picture).groups())
        assert (steered < alone / 2) if strength else (steered == alone)


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
