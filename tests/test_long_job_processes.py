"""`pplm generate --prompts-file` in real processes: killed, interrupted, two of them, and two machines."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from launched import TWO, start

ROOT = Path(__file__).resolve().parent.parent
START = [sys.executable, "-m", "pplm", "generate", "--bag", "space", "--seed", "0", "--device", "cpu",
         "--max-new-tokens", "3", "--num-samples", "1", "--max-batch-size", "4", "--num-iterations", "1"]  # fmt: skip

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_kill_minus_9_at_twenty_moments_loses_nothing(tmp_path):
    path, output = tmp_path / "p.txt", tmp_path / "out.jsonl"
    path.write_text("".join(f"The {'lake ' * (number * 7 % 6)}is\n" for number in range(160)))
    start = [*START, "--prompts-file", str(path), "--resume", "--output"]
    moments = np.sort(np.random.default_rng(0).choice(np.arange(1, 310), 20, replace=False))
    done = subprocess.run([*start, tmp_path / "whole.jsonl"], env=ENVIRONMENT, check=False)  # noqa: S603
    assert done.returncode == 0

    def made():
        places = (output, tmp_path / "out.jsonl.part")
        return sum(place.read_bytes().count(b"\n") for place in places if place.exists())

    for moment in moments:
        process = subprocess.Popen([*start, output], env=ENVIRONMENT)  # noqa: S603
        while process.poll() is None and made() < moment:
            time.sleep(0.005)
        process.kill()
        process.wait()
    done = subprocess.run([*start, output], env=ENVIRONMENT, check=False)  # noqa: S603
    assert done.returncode == 0
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.slow
def test_two_processes_make_the_same_file_as_one(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("".join(f"The {'lake ' * (number * 7 % 6)}is\n" for number in range(30)) + "x\n")
    arguments = ["-m", *START[2:], "--prompts-file", path, "--output"]
    start([], *arguments, tmp_path / "one.jsonl")
    start(TWO, *arguments, tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    settings = [json.loads((tmp_path / f"{name}.jsonl.job.json").read_text()) for name in ("one", "two")]
    assert settings[0] == settings[1]


@pytest.mark.slow
def test_ctrl_c_in_a_running_process_names_the_way_on_and_resume_ends_as_if_it_had_not_been(tmp_path):
    path, output = tmp_path / "p.txt", tmp_path / "out.jsonl"
    path.write_text("".join(f"The {'lake ' * (number * 7 % 6)}is\n" for number in range(60)))
    command = [*START, "--prompts-file", str(path), "--output"]
    subprocess.run([*command, tmp_path / "whole.jsonl"], env=ENVIRONMENT, check=True)  # noqa: S603
    process = subprocess.Popen(  # noqa: S603
        [*command, output], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
        # A shell has what it starts in the background ignore the signal: these tests, and so the process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not (output.exists() and output.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"texts are in {output}" in err
    assert "go on with --resume and the same options" in err
    assert "Traceback" not in err
    assert 0 < len(output.read_bytes().splitlines()) < 120
    subprocess.run([*command, output, "--resume"], env=ENVIRONMENT, check=True)  # noqa: S603
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def two_machines(folders, arguments):
    """Run `pplm` as two ranks, each in a folder of its own; return their exit codes and what they wrote to stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", port,
              "--mixed_precision", "no", "--dynamo_backend", "no", "--machine_rank"]  # fmt: skip
    ranks = [
        subprocess.Popen([*launch, str(rank), *arguments], env=ENVIRONMENT, cwd=folder, text=True,  # noqa: S603
                         stderr=subprocess.PIPE)
        for rank, folder in enumerate(folders)
    ]  # fmt: skip
    errors = [process.communicate(timeout=300)[1] for process in ranks]
    return [process.returncode for process in ranks], errors


@pytest.mark.slow
def test_two_machines_share_nothing_but_a_copy_of_the_prompts(tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        (folder / "p.txt").write_text("".join(f"The {'lake ' * (number * 7 % 6)}is\n" for number in range(30)))
    (folders[0] / "out").mkdir()  # of the first alone
    arguments = ["-m", *START[2:], "--prompts-file", "p.txt", "--output"]
    codes, errors = two_machines(folders, [*arguments, "out/texts.jsonl"])
    assert codes == [0, 0], errors
    assert [path.name for path in folders[1].iterdir()] == ["p.txt"]
    start([], *["-m", *START[2:], "--prompts-file", folders[0] / "p.txt", "--output", tmp_path / "one.jsonl"])
    assert (folders[0] / "out/texts.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    lines = (tmp_path / "one.jsonl").read_bytes().splitlines(keepends=True)
    (folders[0] / "out/texts.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:20])
    codes, errors = two_machines(folders, [*arguments, "out/texts.jsonl", "--resume"])
    assert codes == [0, 0], errors
    assert (folders[0] / "out/texts.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "The sea\n", "is not the same file on every machine"),
        ("p.txt", None, "process 1: --prompts-file p.txt does not exist"),
        ("legal.txt", "law\ncourt\n", "process 1 has other settings: attributes[1].sha256 was"),
    ],
)
def test_machines_with_other_files_are_refused_before_a_line_is_written(tmp_path, name, text, message):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        (folder / "p.txt").write_text("The lake\n")
        (folder / "legal.txt").write_text("law\n")
    if text is None:
        (folders[1] / name).unlink()
    else:
        (folders[1] / name).write_text(text)
    arguments = ["-m", *START[2:], "--avoid-bag", "legal.txt", "--prompts-file", "p.txt", "--output", "texts.jsonl"]
    codes, errors = two_machines(folders, arguments)
    assert all(codes)
    assert message in errors[0]
    assert not (folders[0] / "texts.jsonl").exists()
