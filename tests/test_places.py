"""Places to read from and to write to that refuse: no permission, a full disk, a planted link."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from bad_places import GENERATE, ROWS

from attribute_models import Discriminator
from pplm.files.atomic import atomic_file

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
RUN = """
import contextlib, io, json, sys
from pplm.cli import main
for words in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
    except SystemExit as end:
        code = end.code or 0
    except Exception as error:
        code, _ = 1, err.write(f"Traceback: {error!r}")
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
"""Runs commands in one process, because its start takes seconds."""


def head(path):
    Discriminator.from_weights(torch.ones(2, 320), torch.zeros(2), ["bad", "good"]).save(path)


def _unprivileged(run):
    """Return how to start a Python that permissions hold for: as nobody, or as a root without root's exceptions.

    Another user cannot run a Python that lies in root's home.
    """
    if os.getuid() != 0:
        return [sys.executable], {}
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        if subprocess.run([sys.executable, "-c", "import pplm"], **run, **nobody).returncode == 0:
            return [sys.executable], nobody
    except PermissionError:
        pass
    lacks = "-dac_override,-dac_read_search"
    bare = ["setpriv", f"--bounding-set={lacks}", f"--inh-caps={lacks}", sys.executable]
    try:
        done = subprocess.run([*bare, "-c", "import pplm"], **run)  # noqa: S603
    except OSError as error:
        pytest.skip(f"neither another user nor setpriv can run this Python: {error}")
    if done.returncode:
        pytest.skip(f"neither another user nor setpriv can run this Python: {done.stderr.splitlines()[-1:]}")
    return bare, {}


@pytest.mark.slow
def test_whoever_may_not_read_or_write_is_told_in_one_line():
    """Run as an unprivileged user, because root is refused nothing."""
    place = Path(tempfile.mkdtemp())  # pytest's folders are closed to others
    try:
        _check_permissions(place)
    finally:
        shutil.rmtree(place)


def _check_permissions(place):
    head(place / "mood")
    for name, text in {"locked": "moon\n", "locked.csv": "text\nx\n", "locked.tsv": "a\tb\n", "locked.txt": "x\n",
                       "locked.pt": "x", "texts.csv": "text\nThe lake\n", "data.tsv": "a\tb\nc\td\n",
                       "corpus.txt": "moon\n", "mood/head.safetensors": "x"}.items():  # fmt: skip
        (place / name).write_text(text, encoding="utf-8")
        if "locked" in name or "mood" in name:
            (place / name).chmod(0)
    for name, mode in {"closed": 0, "readonly": 0o555, "cache": 0o777}.items():
        (place / name).mkdir()
        (place / name).chmod(mode)
    place.chmod(0o755)
    run = {"cwd": place, "capture_output": True, "text": True, "check": False, "env": {
        **os.environ, "PYTHONPATH": str(ROOT), "PPLM_CACHE": str(place / "cache"), "HOME": str(place / "cache"),
        "OMP_NUM_THREADS": "1"}}  # fmt: skip
    python, user = _unprivileged(run)
    run |= user
    before = sorted(place.rglob("*"))
    words = [list(words) for words, _ in ROWS.values()]
    done = subprocess.run([*python, "-c", RUN], input=json.dumps(words), **run)  # noqa: S603
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(ROWS), done.stderr
    wrong = {
        name: (code, out, err)
        for (name, (_, says)), (code, out, err) in zip(ROWS.items(), results, strict=True)
        if code != 2 or len(err.splitlines()) != 1 or not err.startswith("Error: ") or not re.search(says, err)
    }
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())
    assert [path for path in sorted(place.rglob("*")) if "cache" not in path.parts] == [
        path for path in before if "cache" not in path.parts
    ]


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(  # noqa: S603
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607


@pytest.mark.slow
def test_a_disk_that_fills_midway_keeps_whole_lines(disk, command):
    (disk / "out.jsonl").write_text("mine", encoding="utf-8")
    (disk / "filler").write_bytes(bytes(56 * 1024))
    texts = ["--num-samples", "8", "--output", disk / "out.jsonl", "--overwrite"]
    code, _, err = command(*GENERATE, *texts)
    assert (code, "No space left on device; choose another place" in err.splitlines()[-1]) == (2, True), err
    lines = (disk / "out.jsonl").read_bytes()
    assert lines.endswith(b"\n")
    assert 0 < len([json.loads(line) for line in lines.splitlines()]) < 9


@pytest.mark.slow
def test_a_job_whose_disk_fills_midway_keeps_whole_lines_and_goes_on_when_there_is_room(tmp_path, disk, command):
    (tmp_path / "p.txt").write_text("".join(f"The {'lake ' * (number * 7 % 6)}is\n" for number in range(24)))
    job = ["generate", *GENERATE[2:], "--prompts-file", tmp_path / "p.txt", "--max-batch-size", "4",
           "--num-iterations", "1", "--resume", "--output"]  # fmt: skip
    assert command(*job, tmp_path / "whole.jsonl")[0] == 0
    (disk / "filler").write_bytes(bytes(40 * 1024))
    code, _, err = command(*job, disk / "out.jsonl")
    assert (code, "No space left on device" in err.splitlines()[-1]) == (2, True), err
    lines = (disk / "out.jsonl").read_bytes()
    assert (tmp_path / "whole.jsonl").read_bytes().startswith(lines)
    assert len(lines) < (tmp_path / "whole.jsonl").stat().st_size
    assert lines == b"" or lines.endswith(b"\n")
    (disk / "filler").unlink()
    code, _, err = command(*job, disk / "out.jsonl")
    assert code == 0, err
    assert (disk / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["score", "texts.csv"], list(GENERATE)])
def test_stdout_on_a_full_disk_is_one_line_and_exit_code_2(tmp_path, words):
    (tmp_path / "texts.csv").write_text("text\nThe lake\n", encoding="utf-8")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pplm", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "Error: stdout cannot be written: No space left on device; free some space or choose another place"
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_link_planted_beside_an_output_or_in_its_place_leads_nowhere(tmp_path):
    victim, out = tmp_path / "victim", tmp_path / "out.jsonl"
    victim.write_text("mine", encoding="utf-8")
    (tmp_path / f".{os.getpid()}.out.jsonl").symlink_to(victim)  # where a predictable temporary file would lie
    out.symlink_to(victim)
    with atomic_file(out) as new:
        new.write_text("texts", encoding="utf-8")
    assert victim.read_text(encoding="utf-8") == "mine"
    assert not out.is_symlink()
    assert out.read_text(encoding="utf-8") == "texts"


def test_a_link_planted_inside_a_head_s_folder_leads_nowhere(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    head(tmp_path / "mood")
    for path in (tmp_path / "mood").iterdir():
        path.unlink()
        path.symlink_to(victim)
    head(tmp_path / "mood")
    assert victim.read_text(encoding="utf-8") == "mine"
    assert not any(path.is_symlink() for path in (tmp_path / "mood").iterdir())
