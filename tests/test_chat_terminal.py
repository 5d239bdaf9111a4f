"""`pplm chat` on a pseudo-terminal: in the same process, and once in a process of its own."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import pplm
import pplm.chat
from pplm.cli import chat as module
from pplm.cli import main

ROOT = Path(__file__).resolve().parent.parent
FORCE = ("--step-size", 2, "--gamma", 1, "--norm-rule", "current", "--gm-scale", 1, "--layers", 0)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
SCRIPT = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes its terminal the one whose Ctrl-C reaches the program."""


@pytest.fixture
def bag(tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nstar\n")
    return tmp_path / "sky.txt"


@pytest.fixture
def terminal(monkeypatch, chat_model):
    """Run a chat on a pseudo-terminal over some lines; return all that was shown."""

    def call(*lines, options=(), **environment):
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        os.write(master, "".join(f"{line}\n" for line in lines).encode() + b"\x04")
        with open(slave, closefd=False) as stdin, open(slave, "w", closefd=False) as stdout:
            monkeypatch.setattr("sys.stdin", stdin)
            monkeypatch.setattr("sys.stdout", stdout)
            arguments = ["chat", "--model", "tiny", "--seed", 0, "--max-new-tokens", 6, *options]
            main(list(map(str, arguments)))
        shown = b""
        while select.select([master], [], [], 0)[0]:
            shown += os.read(master, 4096)
        os.close(slave)
        os.close(master)
        return shown.decode().replace("\r\n", "\n")

    return call


def test_on_a_terminal_bag_words_are_coloured_unless_no_color_is_set(terminal, bag, capsys):
    options = ("--bag", bag, "--max-new-tokens", 60)
    shown = terminal("The sea", options=options)
    assert re.search(r"\x1b\[1;32m(moon|star)\x1b\[0m", shown)
    assert shown.startswith("> ")
    assert "/help lists the commands, Ctrl-D ends" in capsys.readouterr().err
    later = terminal(f"/bag {bag}", "The sea", options=("--max-new-tokens", 60))
    assert re.search(r"\x1b\[1;32m(moon|star)\x1b\[0m", later)
    plain = terminal("The sea", options=options, NO_COLOR="1")
    assert plain == ANSI.sub("", shown)


def test_an_interrupt_ends_the_answer_and_not_the_chat(terminal, monkeypatch, tmp_path, chat):
    seen = []

    def interrupt(text, words, real=module.coloured):
        seen.append(text)
        if len(seen) == 1:
            signal.raise_signal(signal.SIGINT)
        return real(text, words)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(module, "coloured", interrupt)
    path = tmp_path / "talk.jsonl"
    terminal("The sea", "The cat", f"/save {path}", options=("--max-new-tokens", 60))
    _, first, _, second = json.loads(path.read_text("utf-8"))
    whole = pplm.chat.Conversation(*chat, seed=0, max_new_tokens=60, do_sample=True, top_k=10).ask("The sea").completion
    assert whole.startswith(first["content"].rstrip("\ufffd"))  # a letter of several bytes may be cut
    assert len(first["content"]) < len(whole) / 2
    assert len(second["content"]) > len(first["content"])
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.slow
def test_in_a_real_terminal_ctrl_c_stops_an_answer_and_ctrl_d_ends_the_chat(chat, tmp_path):
    for part in chat:
        part.save_pretrained(tmp_path / "tiny")
    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "pplm", "chat", "--model", tmp_path / "tiny", "--max-new-tokens", "400"]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", SCRIPT, *command], cwd=tmp_path, env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = ""

    def wait_for(needle, seconds=60):
        nonlocal shown
        end = time.monotonic() + seconds
        while needle not in shown and time.monotonic() < end:
            if select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 4096).decode(errors="replace")
        assert needle in shown, shown
        shown = shown.partition(needle)[2]

    try:
        wait_for("> ")
        os.write(master, b"The sea\n")
        wait_for("The sea\r\n")
        while len(shown) < 5:
            shown += os.read(master, 4096).decode(errors="replace")
        os.write(master, b"\x03")
        wait_for("> ")
        os.write(master, b"/save talk.jsonl\n")
        wait_for("saved 2 messages")
        wait_for("> ")
        os.write(master, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
