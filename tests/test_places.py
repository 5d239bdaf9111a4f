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


@pytest.mark.slow
def test_whoever_may_not_read_or_write_is_told_in_one_line():
    """Run as nobody, because root is refused nothing."""
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
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    run = {"cwd": place, "capture_output": True, "text": True, "check": False, **user, "env": {
        **os.environ, "PYTHONPATH": str(ROOT), "PPLM_CACHE": str(place / "cache"), "HOME": str(place / "cache"),
        "OMP_NUM_THREADS": "1"}}  # fmt: skip
    try:
        tried = subprocess.run([sys.executable, "-c", "import pplm"], **run)
    except PermissionError as error:
        pytest.skip(f"another user cannot run this Python: {error}")
    if tried.returncode:
        pytest.skip(f"another user cannot run this Python: {tried.stderr.splitlines()[-1:]}")
    before = sorted(place.rglob("*"))
    words = [list(words) for words, _ in ROWS.values()]
    done = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(words), **run)  # noqa: S603
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(ROWS), done.stderr
    wrong = {
        name: (code, out, err)
        for (name, (_, says)), (code, out, err) in zip(ROWS.items(), results, strict=True)
        if code != 2 or len(err.splitlines()) != 1 or not err.startswith("Error: ") or not re.search(says, err)
    }
    assert wrong == {}
    assert [path for path in sorted(place.rglob("*")) if "cache" not in path.parts] == [
        path for path in before if "cache" not in path.parts
    ]


@pytest.mark.slow
def test_a_disk_that_fills_midway_keeps_whole_lines(tmp_path, command):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(  # noqa: S603
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        (disk / "out.jsonl").write_text("mine", encoding="utf-8")
        (disk / "filler").write_bytes(bytes(56 * 1024))
        texts = ["--num-samples", "8", "--output", disk / "out.jsonl", "--overwrite"]
        code, _, err = command(*GENERATE, *texts)
        assert (code, "No space left on device; choose another place" in err.splitlines()[-1]) == (2, True), err
        lines = (disk / "out.jsonl").read_bytes()
        assert lines.endswith(b"\n")
        assert 0 < len([json.loads(line) for line in lines.splitlines()]) < 9
    finally:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S603, S607


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
