"""Python programs in processes of their own: one, or two through `accelerate launch`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
"""With --cpu accelerate starts one process only; --multi_gpu starts several on a CPU as well."""
TWO = [*LAUNCH, "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
"""At a free port, because other tests may launch processes meanwhile."""


def start(launch, *arguments):
    """Run a Python program in a process of its own, or in two; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout
