"""Two commands never write to the same folder."""

import json
import os
import socket
import subprocess
import sys

import psutil
import pytest
from launched import ROOT, TWO, start

from pplm import InputError
from pplm.files.lock import folder_lock


def write(lock, **changes):
    """Leave a lock as this very process would, but for some values."""
    own = {"host": socket.gethostname(), "process": os.getpid(), "started": psutil.Process().create_time()}
    lock.write_text(json.dumps({**own, **changes}))


@pytest.fixture
def lock(tmp_path):
    return tmp_path / ".run.lock"


def test_a_folder_is_held_while_the_block_runs_and_free_after_it(tmp_path, lock):
    for _ in range(2):
        with folder_lock(tmp_path / "run"):
            assert json.loads(lock.read_text())["process"] == os.getpid()
            message = r"another command is writing to .*run .*delete .*\.run\.lock"
            with pytest.raises(InputError, match=message), folder_lock(tmp_path / "more" / ".." / "run"):
                pass
            assert lock.exists()
        assert not lock.exists()
    with pytest.raises(KeyboardInterrupt), folder_lock(tmp_path / "run"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []  # the folder itself is made by whoever writes to it


def test_another_process_that_runs_holds_its_folder(tmp_path, lock):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        write(lock, process=other.pid, started=psutil.Process(other.pid).create_time())
        with pytest.raises(InputError, match=f"another command .*{other.pid}"), folder_lock(tmp_path / "run"):
            pass
        other.communicate(b"\n")
    with folder_lock(tmp_path / "run"):
        assert json.loads(lock.read_text())["process"] == os.getpid()


@pytest.mark.parametrize("changes", [{"process": 2**22 + 1}, {"started": 0.0}], ids=["gone", "number used again"])
def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, lock, changes):
    write(lock, **changes)
    with folder_lock(tmp_path / "run"):
        assert json.loads(lock.read_text())["started"] == psutil.Process().create_time()
    assert not lock.exists()


@pytest.mark.parametrize("content", [json.dumps({"host": "another", "process": 2**22 + 1, "started": 0}), "", "{"])
def test_locks_of_other_machines_and_unreadable_ones_are_respected(tmp_path, lock, content):
    lock.write_text(content)
    with pytest.raises(InputError, match="another command is writing"), folder_lock(tmp_path / "run"):
        pass
    assert lock.read_text() == content


def test_a_folder_in_a_place_that_cannot_be_written_holds_its_lock_itself(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with folder_lock(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".run.lock"]
    assert list((tmp_path / "run").iterdir()) == []


COMMANDS = {
    "evaluate": ["--methods", "B,BC", "--attributes", "space", "--new-tokens", "2", "--num-iterations", "1"],
    "sweep": ["--vary", "step_size=.1", "--attributes", "space", "--new-tokens", "2", "--num-iterations", "1"],
    "train-base": [ROOT / "README.md", "--steps", "1"],
    "train-discriminator": ["texts.csv", "--no-cache"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_of_two_commands_is_refused_in_one_line(command, tmp_path, lock, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{word} {number},{label}" for number in range(12) for word, label in (("good", "a"), ("bad", "b"))]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    with folder_lock(tmp_path / "run"):
        code, out, err = command(name, *COMMANDS[name], "--output", tmp_path / "run")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("Error: another command is writing to")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_first_process_of_a_launch_holds_the_folder_for_all(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, pathlib, json, os\n"
        "from pplm.errors import InputError\n"
        "from pplm.files.lock import folder_lock\n"
        "from pplm.models.processes import Processes\n"
        "p = Processes.of_launch(cpu=True)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with folder_lock(folder, on_main=p.on_main):\n"
        "    owner = json.loads((folder.parent / '.run.lock').read_text())['process']\n"
        "    found = p.join([owner == os.getpid()])\n"
        "    try:\n"
        "        with folder_lock(folder, on_main=p.on_main):\n"
        "            refused = False\n"
        "    except InputError:\n"
        "        refused = True\n"
        "    p.wait()\n"
        "p.wait()\n"
        "found += p.join([refused, not (folder.parent / '.run.lock').exists()])\n"
        "p.main and print(found)\n"
    )
    assert start(TWO, program, tmp_path / "run").splitlines()[0] == "[True, False, True, True, True, True]"
