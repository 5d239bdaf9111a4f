"""`pplm web` in a process of its own, for tests that open its page."""

import os
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def opened(*options, **environment):
    """Run `pplm web` on a free port; yield the page's address."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "pplm", "web", "--port", "0", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for line in process.stderr:
            if " at http://" in line:
                yield line.split()[-1]
                break
        else:
            raise AssertionError(f"pplm web ended with exit code {process.wait()}")
    finally:
        process.terminate()
        rest = process.communicate(timeout=30)[1]
    assert "Traceback" not in rest, rest
