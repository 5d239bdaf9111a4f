"""What the server's clients are warned of, whole or in a stream."""

import pytest
import torch
from server_clients import events, needs_server
from server_requests import BODY

import attribute_models

needs_server()


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
