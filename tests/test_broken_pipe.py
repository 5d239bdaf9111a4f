"""`pplm ... | head -1`: what happens when whoever reads the output goes away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GENERATE = ("generate", "The lake", "--bag", "space", "--max-new-tokens", "2", "--num-samples", "1", "--seed", "0")


def without_reader(arguments, *, stderr_too=False, **options):
    """Run `pplm` with a stdout that nobody reads; return its exit code and what it wrote to stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pplm", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=writer, stderr=writer if stderr_too else subprocess.PIPE, timeout=120, check=False, **options,
        )  # fmt: skip
    finally:
        os.close(writer)
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["--version"]])
@pytest.mark.parametrize("stderr_too", [False, True])
def test_help_that_nobody_reads_ends_in_silence_as_after_a_broken_pipe(arguments, stderr_too):
    assert without_reader(arguments, stderr_too=stderr_too) == (141, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        GENERATE,
        [*GENERATE[:1], "--prompts-file", "-", *GENERATE[2:]],
        ["classify", "--discriminator", "sentiment", "The lake"],
    ],
    ids=["texts", "lines", "classify"],
)
def test_texts_that_nobody_reads_end_the_command_without_a_traceback(arguments, tmp_path):
    code, err = without_reader(arguments, input=b"The lake\nThe city\n", cwd=tmp_path)
    assert (code, "Traceback" in err, "Exception" in err, "Error" in err) == (141, False, False, False), err


@pytest.mark.slow
def test_texts_whose_first_line_is_read_end_the_command_in_the_same_way():
    """As a shell does it: the first text is read, the pipe is closed while the next ones are made."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "pplm", *GENERATE[:1], "--prompts-file", "-", *GENERATE[2:]],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdin.write(b"The lake\n" * 2000)
        process.stdin.close()
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        err = process.stderr.read().decode()
    assert process.returncode == 141, err
    assert "Traceback" not in err
