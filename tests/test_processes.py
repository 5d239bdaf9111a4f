"""Several real processes through `accelerate launch` give what one gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pplm.models.processes import Processes

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
"""With --cpu accelerate starts one process only; --multi_gpu starts several on a CPU as well."""
TWO = [*LAUNCH, "--mixed_precision", "no", "--dynamo_backend", "no"]


def start(launch, *arguments):
    """Run a Python program in a process of its own, or in two; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_alone_everything_is_one_s_own():
    one = Processes()
    assert (one.count, one.index, one.main) == (1, 0, True)
    assert one.own([1, 2, 3]) == one.join([1, 2, 3]) == [1, 2, 3]
    assert one.share("text") == "text"
    one.wait()


@pytest.mark.slow
def test_two_processes_share_and_join_and_leave(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit\n"
        "import torch\n"
        "from pplm.models.processes import Processes\n"
        "atexit.register(lambda: p.main and print('still a member:', torch.distributed.is_initialized()))\n"
        "p = Processes(cpu=True)\n"
        "joined, shared = p.join(p.own('abcde')), p.share(p.index)\n"
        "p.main and print(p.count, joined, shared)\n"
    )
    lines = start(TWO, program).splitlines()
    assert lines[0] == "2 ['a', 'c', 'e', 'b', 'd'] 0"
    assert lines[-1] == "still a member: False"  # who is, may be aborted while Python shuts down


@pytest.mark.slow
def test_two_processes_generate_the_same_texts_as_one(tmp_path):
    prompts = ["The lake", "A city by the sea", "Once", "In brief", "To conclude"]
    options = ["--bag", "space", "--seed", 0, "--num-samples", 2, "--max-new-tokens", 6, "--max-batch-size", 4]
    for launch, module in (([], ["-m", "pplm"]), (TWO, ["-m", "pplm"])):
        path = tmp_path / f"{len(launch)}.jsonl"
        printed = start(launch, *module, "generate", *prompts, *options, "--device", "cpu", "--output", path)
        assert printed.count("[steered") == 10
    one, two = (path.read_text() for path in sorted(tmp_path.glob("*.jsonl")))
    assert one == two
    assert [json.loads(line)["prompt_index"] for line in one.splitlines()] == [*range(5), *sorted([*range(5)] * 2)]
