"""`pplm generate --prompts-file`: the options of a long job, and the job itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pplm.cli.options import Command
from pplm.cli.outputs import FILE
from pplm.cli.row_settings import RowSettings, check_columns, unused
from pplm.errors import InputError
from pplm.files.lines import json_line
from pplm.files.lock import folder_lock
from pplm.files.progress import progress_bar
from pplm.files.rows import FORMATS, STDIN
from pplm.files.settings_file import check_settings, read_settings, write_settings

if TYPE_CHECKING:
    from torch import Tensor

    from pplm.jobs.input_file import PromptsFile
    from pplm.jobs.ledger import Ledger, Outcome
    from pplm.jobs.requests import Job, Request
    from pplm.models.processes import Processes

_AGAIN = "add --overwrite to start again, or name another --output"


@dataclass(frozen=True)
class FileJob:
    """What the options of a long job ask for."""

    prompts: PromptsFile
    use_columns: tuple[str, ...]
    allow_files: bool
    output: Path | None
    resume: bool
    retry_errors: bool
    overwrite: bool

    @property
    def kept(self) -> Path | None:
        """The output, where it is a file that the job can go on with later."""
        regular = self.output is not None and (self.output.is_file() or not self.output.exists())
        return self.output if regular else None

    @property
    def stored_seed(self) -> int | None:
        """The seed that the interrupted job drew."""
        from pplm.jobs.job_file import settings_path

        if not self.resume or self.kept is None or not settings_path(self.kept).is_file():
            return None
        return read_settings(settings_path(self.kept), _AGAIN)["settings"].get("seed")


def prompts_file_options(command: Command) -> Command:
    """Add the options of a long job."""
    formats = ["txt", *(name.removeprefix(".") for name in FORMATS)]
    for option in (
        click.option("--retry-errors", is_flag=True,
                     help="With --resume: try prompts again that failed. Without it their lines are kept."),
        click.option("--resume", is_flag=True,
                     help="Go on with the interrupted job in --output; repeat its other options unchanged. Starts it "
                     "where there is none, and does nothing where it is complete."),
        click.option("--allow-files", is_flag=True,
                     help="Let the columns of --use-columns name files and folders, not only what is shipped."),
        click.option("--use-columns", default=None, metavar="NAME,NAME...",
                     help="Let each row set these for itself, an empty cell standing for the command's value: bag, "
                     "avoid_bag, discriminator (as the options take them, several with | between), seed, and the "
                     "settings of steering, such as strength."),
        click.option("--prompt-column", default="prompt", show_default=True,
                     help="The column of --prompts-file that holds the prompts."),
        click.option("--format", "file_format", type=click.Choice(formats), default=None,
                     help="How to read --prompts-file.  [default: by its name; txt, one prompt a line, from stdin]"),
        click.option("--prompts-file", type=FILE, default=None, metavar="FILE|-",
                     help="Continue the prompts of a file (.txt with one prompt a line, .csv, .tsv, .jsonl, .json, "
                     ".parquet) or of stdin (-) instead of PROMPT, however many. Every text is a line of JSON in "
                     "--output, or on stdout, with the row's other columns."),
    ):  # fmt: skip
        command = option(command)
    return command


def take_file_job(
    prompts: Sequence[str], options: dict[str, Any], output: Path | None, *, overwrite: bool
) -> FileJob | None:
    """Take the options of a long job out of a command's options; None without --prompts-file."""
    path, file_format, column = (options.pop(name) for name in ("prompts_file", "file_format", "prompt_column"))
    columns, allow_files = options.pop("use_columns"), options.pop("allow_files")
    resume, retry_errors = options.pop("resume"), options.pop("retry_errors")
    if path is None:
        given = {"--format": file_format, "--use-columns": columns, "--allow-files": allow_files,
                 "--resume": resume, "--retry-errors": retry_errors}  # fmt: skip
        for name, value in given.items():
            if value:
                raise InputError(f"{name} is of a file of prompts; add --prompts-file FILE, or leave it out")
        return None
    if prompts:
        raise InputError(f"--prompts-file {path} holds the prompts; leave out {prompts[0]!r}")
    if path != STDIN and not path.is_file():
        raise InputError(f"--prompts-file {path} does not exist; name a file, or - for stdin")
    if overwrite and resume:
        raise InputError("--resume keeps the texts that --overwrite replaces; leave out one of the two")
    if retry_errors and not resume:
        raise InputError("--retry-errors goes on with a job; add --resume")
    from pplm.jobs.input_file import PromptsFile

    used = tuple(dict.fromkeys(name.strip() for name in columns.split(","))) if columns else ()
    check_columns(used)
    kind = None if file_format is None else f".{file_format}"
    job = FileJob(PromptsFile(path, kind, column), used, allow_files, output, resume, retry_errors, overwrite)
    if resume and (job.kept is None or path == STDIN):
        what = "--resume needs --output FILE" if job.kept is None else "--resume needs prompts that can be read again"
        raise InputError(f"{what}; {'name one' if job.kept is None else 'write them to a file first'}")
    if output is not None and path.resolve() == output.resolve():
        raise InputError(f"--output {output} is the file of the prompts; name another file")
    if output is not None and output.is_file() and not (resume or overwrite):
        raise InputError(
            f"--output {output} exists; add --resume to go on with its job, --overwrite to replace it, or name another "
            "file"
        )
    return job


def run_file_job(asked: FileJob, job: Job, rows: RowSettings, processes: Processes, settings: Mapping[str, Any]) -> int:
    """Do a long job; return the number of prompts that failed. `settings` are all that its texts depend on."""
    from pplm.models.surroundings import surroundings_of

    if asked.prompts.is_stdin and processes.count > 1:
        raise InputError("several processes cannot share stdin; write the prompts to a file first")
    seen: tuple[str | None, int | None, list[str]] = (None, None, [])
    if not asked.prompts.is_stdin:
        seen = asked.prompts.scan()
        if len(set(processes.join([seen[0]]))) > 1:
            raise InputError(f"--prompts-file {asked.prompts.path} is not the same file on every machine; copy it")
    digest, total, columns = seen
    if missing := [name for name in asked.use_columns if columns and name not in columns]:
        raise InputError(f"{asked.prompts.path} has no column {missing[0]!r}; it has {', '.join(columns)}")
    idle = unused([name for name in columns if name != asked.prompts.column], asked.use_columns)
    if idle and processes.main:
        click.echo(f"columns copied through, not used as settings: {', '.join(idle)} (--use-columns)", err=True)
    whole = {
        "input": {"sha256": digest, "format": asked.prompts.kind, "prompt_column": asked.prompts.column},
        "use_columns": asked.use_columns,
        "allow_files": asked.allow_files,
        **settings,
    }
    requests = asked.prompts.requests(rows.request)
    if asked.kept is None:
        return _to_stream(asked, job, requests, processes, total)
    with folder_lock(asked.kept, on_main=processes.on_main):
        return _to_file(asked, asked.kept, job, requests, processes, total, (whole, surroundings_of(job.model)))


def _to_stream(asked: FileJob, job: Job, requests: Iterable[Request], processes: Processes, total: int | None) -> int:
    """Write the lines to stdout, or to what is no regular file."""
    from pplm.jobs.ledger import Ledger

    ledger: Ledger[bytes] = Ledger(line_of)
    failed = 0
    place = "stdout" if asked.output is None else f"--output {asked.output}"
    try:
        with nullcontext(sys.stdout.buffer) if asked.output is None else asked.output.open("wb", buffering=0) as file:
            for window in with_progress(job, requests, ledger, processes, total):
                for line in ledger.release(window):
                    failed += is_failure(line)
                    if processes.main:
                        file.write(line)
                        file.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        raise
    except OSError as error:
        raise InputError(f"{place} cannot be written: {error.strerror or error}; choose another place") from error
    _report_failed(failed, processes)
    return failed


def _to_file(
    asked: FileJob,
    output: Path,
    job: Job,
    requests: Iterable[Request],
    processes: Processes,
    total: int | None,
    records: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> int:
    from pplm.jobs.job_file import JobFile, settings_path, waiting_path

    path, start = settings_path(output), time.monotonic()
    ledger = JobFile(line_of, output, processes)

    def prepare() -> None:
        left = [place for place in (output, waiting_path(output)) if place.exists() and place.stat().st_size]
        if asked.resume and path.is_file():
            check_settings(path, *records, texts=output, remedy=_AGAIN)
        elif asked.resume and left:
            raise InputError(f"{left[0]} holds texts, but {path} is missing; {_AGAIN}")
        elif left and not asked.overwrite:
            raise InputError(f"{left[0]} holds an interrupted job's texts; add --resume to go on with it, or {_AGAIN}")

    processes.on_main(prepare)
    if asked.resume:
        processes.on_main(lambda: None if path.is_file() else write_settings(path, *records))
        ledger.resume(retry_errors=asked.retry_errors)
    else:
        ledger.start()
        processes.on_main(lambda: write_settings(path, *records))
    there = ledger.lines
    try:
        for window in with_progress(job, requests, ledger, processes, total):
            ledger.write(window)
    except KeyboardInterrupt:
        if processes.main:
            how = "stdin cannot be read again" if asked.prompts.is_stdin else "go on with --resume"
            click.echo(f"{ledger.lines} texts are in {output}, {len(ledger.waiting)} more in {output}.part; {how}",
                       err=True)  # fmt: skip
        raise
    if processes.main:
        took = timedelta(seconds=round(time.monotonic() - start))
        before = f", {there} of them from before" if there else ""
        prompts = ledger.given + bool(ledger.skipped)
        click.echo(f"{ledger.lines} lines of {prompts} prompts in {output}{before}; {took}", err=True)
    _report_failed(ledger.failed, processes)
    return ledger.failed


def _report_failed(failed: int, processes: Processes) -> None:
    if failed and processes.main:
        click.echo(f'{failed} {"prompt" if failed == 1 else "prompts"} failed; see "error" in the lines', err=True)


def line_of(outcome: Outcome) -> bytes:
    """Return a text's line, or that of a prompt that failed."""
    from pplm.jobs.requests import Failed

    request = outcome.request
    if isinstance(outcome, Failed):
        return json_line({"prompt": request.prompt, "prompt_index": request.number, "error": outcome.error,
                          **request.copied})  # fmt: skip
    return json_line({**outcome.text.record(), **request.copied})


def is_failure(line: bytes) -> bool:
    """Return whether a line holds an error."""
    import json

    return "error" in json.loads(line)


def with_progress(
    job: Job, requests: Iterable[Request], ledger: Ledger[Any], processes: Processes, total: int | None
) -> Iterator[list[Request]]:
    """Run a job under a bar that moves with every token; `total` is the number of prompts, if that is found out yet."""
    from dataclasses import replace

    import torch

    from pplm.jobs.running import run_job

    given, each = ledger.given, sum(job.drawn) * job.arguments["max_new_tokens"]
    steps = None if total is None else max(1, (total - given) * each)
    done = 0
    with progress_bar("steering", "tokens", shown=processes.main) as on_progress:

        def show() -> None:
            if steps is None:
                on_progress(0, 1, f"{done:,} tokens")
            else:
                on_progress(min(done, steps), steps)

        def count_token(input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ARG001
            """Move the bar: transformers calls a stopping criterion once per token. It never stops anything."""
            nonlocal done
            done += len(input_ids) * processes.count
            show()
            return input_ids.new_zeros(len(input_ids), dtype=torch.bool)

        counting = replace(job, arguments={**job.arguments, "stopping_criteria": [count_token]})
        for window in run_job(counting, requests, ledger, processes):
            yield window
            done = max(done, (ledger.given - given) * each)  # texts that ended early
            show()
