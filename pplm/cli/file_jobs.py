"""`pplm generate --prompts-file`: the job itself, from its prompts to the lines of its output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pplm.cli.job_progress import with_progress
from pplm.cli.prompt_files import AGAIN, FileJob
from pplm.cli.row_settings import RowSettings
from pplm.errors import InputError
from pplm.files.lines import json_line, write_whole
from pplm.files.lock import folder_lock
from pplm.files.settings_file import check_settings, name_differences, write_settings

if TYPE_CHECKING:
    from pplm.jobs.input_file import Input
    from pplm.jobs.job_file import JobFile
    from pplm.jobs.ledger import Outcome
    from pplm.jobs.requests import Job
    from pplm.models.processes import Processes


def run_file_job(
    asked: FileJob, found: Input, job: Job, rows: RowSettings, processes: Processes, settings: Mapping[str, Any]
) -> int:
    """Do a long job; return the number of prompts that failed.

    Parameters
    ----------
    asked, found
        What the options ask for, and the prompts.
    job, rows
        What all prompts share, and what a row may change.
    processes
        Those that share the job; the main one writes.
    settings
        All that the texts depend on, except the prompts: a job is resumed only with the same ones.

    """
    from pplm.models.surroundings import surroundings_of

    whole = {
        "input": {"sha256": found.sha256, "format": asked.prompts.format, "prompt_column": asked.prompts.column},
        "use_columns": asked.use_columns,
        "allow_files": asked.allow_files,
        **settings,
    }
    for index, other in enumerate(processes.join([whole])):
        if changed := name_differences(whole, other):
            raise InputError(f"process {index} has other settings: {changed}; give all machines the same files")
    if asked.kept is None:
        return _to_stream(asked, found, job, rows, processes)
    with folder_lock(asked.kept, on_main=processes.on_main):
        ledger = _open(asked, asked.kept, processes, (whole, surroundings_of(job.model)))
        if asked.resume:
            again = (rows.request(number, row) for number, row in enumerate(asked.prompts.rows()))
            processes.on_main(lambda: ledger.check_given(again))
        return _to_file(asked, found, job, rows, processes, ledger)


def _to_stream(asked: FileJob, found: Input, job: Job, rows: RowSettings, processes: Processes) -> int:
    """Write the lines to stdout, or to an output that is not a regular file, such as a pipe."""
    from pplm.jobs.ledger import Ledger

    ledger: Ledger[bytes] = Ledger(line_of)
    start, lines, failed = time.monotonic(), 0, 0
    place = "stdout" if asked.output is None else str(asked.output)
    requests = found.requests(rows.request)
    try:
        with _writer(asked.output, processes) as write:
            for window in with_progress(
                job, requests, ledger, processes, found.count, lines_on_stdout=asked.output is None
            ):
                for line in ledger.release(window):
                    write(line)
                    lines, failed = lines + 1, failed + _is_failure(line)
    except KeyboardInterrupt:
        _say(processes, f"{lines} lines went to {place}; only a job with --output FILE can be resumed")
        raise
    _report(processes, f"{_lines_of(lines, ledger.given)} on {place}", start, failed)
    return failed


@contextmanager
def _writer(output: Path | None, processes: Processes) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes a line whole and at once; in other processes than the main one it does nothing."""
    place = "stdout" if output is None else f"--output {output}"

    @contextmanager
    def usable() -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # the reader of our output, such as `head`, has gone
            raise
        except OSError as error:
            raise InputError(f"{place} cannot be written: {error.strerror or error}; choose another place") from error

    with ExitStack() as stack:
        file: Any = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
        if output is not None and processes.main:
            with usable():
                file = stack.enter_context(output.open("wb", buffering=0))

        def write(line: bytes) -> None:
            if processes.main:
                with usable():
                    write_whole(file, line)

        yield write


def _open(
    asked: FileJob, output: Path, processes: Processes, records: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> JobFile:
    """Return the job's file, empty or with what an earlier run left, once the job's settings are on disk."""
    from pplm.jobs.job_file import JobFile, settings_path

    path = settings_path(output)
    ledger = JobFile(line_of, output, processes)
    if asked.resume:
        processes.on_main(lambda: check_settings(path, *records, texts=output, remedy=AGAIN))
    else:
        processes.on_main(lambda: asked.check_output(None))  # again: another command may have come before the lock
        ledger.start()
    processes.on_main(lambda: None if path.is_file() else write_settings(path, *records))
    if asked.resume:
        ledger.resume(retry_errors=asked.retry_errors)
    return ledger


def _to_file(asked: FileJob, found: Input, job: Job, rows: RowSettings, processes: Processes, ledger: JobFile) -> int:
    from pplm.jobs.job_file import waiting_path

    start, before = time.monotonic(), ledger.lines
    try:
        for window in with_progress(job, found.requests(rows.request), ledger, processes, found.count):
            ledger.write(window)
    except KeyboardInterrupt:
        how = "stdin cannot be read again" if asked.prompts.is_stdin else "go on with --resume and the same options"
        waiting = f", {len(ledger.waiting)} more in {waiting_path(ledger.output)}" if ledger.waiting else ""
        _say(processes, f"{ledger.lines} texts are in {ledger.output}{waiting}; {how}")
        raise
    earlier = f", {before} of them from before" if before else ""
    prompts = ledger.given + bool(ledger.skipped)
    _report(processes, f"{_lines_of(ledger.lines, prompts)} in {ledger.output}{earlier}", start, ledger.failed)
    return ledger.failed


def _lines_of(lines: int, prompts: int) -> str:
    return f"{lines} {'line' if lines == 1 else 'lines'} of {prompts} {'prompt' if prompts == 1 else 'prompts'}"


def _report(processes: Processes, made: str, start: float, failed: int) -> None:
    """Show a job's summary."""
    _say(processes, f"{made}; {timedelta(seconds=round(time.monotonic() - start))}")
    if failed:
        _say(processes, f'{failed} {"prompt" if failed == 1 else "prompts"} failed; see "error" in the lines')


def _say(processes: Processes, message: str) -> None:
    if processes.main:
        click.echo(message, err=True)


def line_of(outcome: Outcome) -> bytes:
    """Return a text's line, or that of a prompt that failed."""
    from pplm.jobs.requests import Failed

    request = outcome.request
    if isinstance(outcome, Failed):
        return json_line({"prompt": request.prompt, "prompt_index": request.number, "error": outcome.error,
                          **request.copied})  # fmt: skip
    return json_line({**outcome.text.record(), **request.copied})


def _is_failure(line: bytes) -> bool:
    return "error" in json.loads(line)
