"""`pplm generate --prompts-file`: the options of a long job, and what is checked before it begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pplm.cli.options import Command
from pplm.cli.outputs import FILE, check_outputs
from pplm.cli.row_settings import check_columns, unused
from pplm.errors import InputError
from pplm.files.rows import FORMATS
from pplm.files.settings_file import read_settings

if TYPE_CHECKING:
    from pplm.jobs.input_file import Input, PromptsFile
    from pplm.models.processes import Processes

AGAIN = "add --overwrite to start again, or name another --output"
"""The remedy where a job cannot be resumed."""


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
        """The output if it is a regular file, from which the job can be resumed; else None."""
        regular = self.output is not None and (self.output.is_file() or not self.output.exists())
        return self.output if regular else None

    @property
    def goes_on(self) -> bool:
        """Whether there is a job to resume; where there is none, --resume starts one."""
        from pplm.jobs.job_file import settings_path

        return self.resume and self.kept is not None and settings_path(self.kept).is_file()

    @property
    def stored_seed(self) -> int | None:
        """The seed of the job that is resumed; None if there is none."""
        from pplm.jobs.job_file import settings_path

        if not self.goes_on or self.kept is None:
            return None
        return read_settings(settings_path(self.kept), AGAIN)["settings"].get("seed")

    def check_output(self, save_bag: Path | None) -> None:
        """Refuse files that exist, are read as well, or cannot be written; called in the main process alone."""
        from pplm.jobs.job_file import settings_path, waiting_path

        if self.resume and self.kept is None:
            raise InputError("--resume needs --output FILE; name one")
        check_outputs({"--output": self.output}, overwrite=True)
        check_outputs({"--save-bag": save_bag}, overwrite=self.overwrite or self.goes_on)
        if self.kept is None:
            return
        others = {"the file of the prompts": self.prompts.path, "the file of --save-bag": save_bag}
        for place in (self.kept, waiting_path(self.kept), settings_path(self.kept)):
            for what, other in others.items():
                # Path.resolve would end at a link to itself.
                if other is not None and os.path.realpath(other) == os.path.realpath(place):
                    raise InputError(f"--output {self.kept} writes {place}, which is {what}; name another file")
            if place.exists() and place.stat().st_size and self.resume and not self.goes_on:
                raise InputError(f"{place} holds texts, but {settings_path(self.kept)} is missing; {AGAIN}")
            if place.exists() and not (self.resume or self.overwrite):
                raise InputError(
                    f"{'--output ' if place == self.kept else ''}{place} exists; add --resume to go on with its job, "
                    "--overwrite to replace it, or name another --output"
                )

    def read(self, processes: Processes) -> Input:
        """Return the prompts, once every process has read the same ones; report columns that --use-columns leaves out.

        Raises
        ------
        InputError
            In all processes, if one of them cannot read the file or a column is missing.

        """
        if self.prompts.is_stdin and processes.count > 1:
            raise InputError("several processes cannot share stdin; write the prompts to a file first")
        found, wrong = None, ""
        try:
            found = self.prompts.read()
        except InputError as error:
            wrong = str(error)
        everywhere = processes.join([(wrong, found and found.sha256)])
        for index, (problem, _) in enumerate(everywhere):
            if problem:
                raise InputError(problem if processes.count == 1 else f"process {index}: {problem}")
        if found is None or len({digest for _, digest in everywhere}) > 1:
            raise InputError(f"--prompts-file {self.prompts.path} is not the same file on every machine; copy it")
        missing = [name for name in self.use_columns if name not in found.columns]
        if missing and not (self.prompts.is_stdin and self.prompts.format == ".jsonl"):  # where later rows may have it
            raise InputError(
                f"--prompts-file {self.prompts.path} has no column {missing[0]!r}; it has {', '.join(found.columns)}; "
                "leave it out of --use-columns"
            )
        idle = unused([name for name in found.columns if name != self.prompts.column], self.use_columns)
        if idle and processes.main:
            click.echo(f"columns copied through, not used as settings: {', '.join(idle)} (--use-columns)", err=True)
        return found


def prompts_file_options(command: Command) -> Command:
    """Add the options of a long job."""
    formats = ["txt", *(name.removeprefix(".") for name in FORMATS)]
    for option in (
        click.option("--retry-errors", is_flag=True,
                     help="With --resume: retry the prompts that failed; without it their lines are kept as they are."),
        click.option("--resume", is_flag=True,
                     help="Resume the interrupted job in --output; repeat its other options unchanged. Where there is "
                     "none yet, a new job starts; a complete one is left as it is."),
        click.option("--allow-files", is_flag=True,
                     help="Let the columns of --use-columns name files and folders, not only what is shipped."),
        click.option("--use-columns", default=None, metavar="NAME,NAME...",
                     help="Columns with which each row sets options for itself: bag, avoid_bag, discriminator (as the "
                     "options take them; several are separated by |), seed, and the settings of steering, such as "
                     "strength. An empty cell leaves the command's value."),
        click.option("--prompt-column", default="prompt", show_default=True,
                     help="The column of --prompts-file that holds the prompts."),
        click.option("--format", "file_format", type=click.Choice(formats), default=None,
                     help="How to read --prompts-file.  [default: as the file's name ends; from stdin, txt]"),
        click.option("--prompts-file", type=FILE, default=None, metavar="FILE|-",
                     help="Take any number of prompts from a file (.txt with one prompt per line, .csv, .tsv, .jsonl, "
                     ".json, .parquet) or from stdin (-) instead of PROMPT. Every text becomes a line of JSON in "
                     "--output, or on stdout, with the row's other columns."),
    ):  # fmt: skip
        command = option(command)
    return command


def take_file_job(
    prompts: Sequence[str], options: dict[str, Any], output: Path | None, *, overwrite: bool
) -> FileJob | None:
    """Remove the options of a long job from a command's; return what they ask for, None without --prompts-file."""
    path, file_format, column = (options.pop(name) for name in ("prompts_file", "file_format", "prompt_column"))
    columns, allow_files = options.pop("use_columns"), options.pop("allow_files")
    resume, retry_errors = options.pop("resume"), options.pop("retry_errors")
    if path is None:
        given = {"--format": file_format, "--use-columns": columns, "--allow-files": allow_files,
                 "--resume": resume, "--retry-errors": retry_errors}  # fmt: skip
        for name, value in given.items():
            if value:
                raise InputError(f"{name} is for a file of prompts; add --prompts-file FILE, or leave {name} out")
        return None
    if prompts:
        raise InputError(f"--prompts-file {path} holds the prompts; leave out {prompts[0]!r}")
    if overwrite and resume:
        raise InputError("--resume keeps the texts that --overwrite replaces; leave out one of the two")
    if retry_errors and not resume:
        raise InputError("--retry-errors retries prompts of a job that is resumed; add --resume")
    if allow_files and columns is None:
        raise InputError("--allow-files is about the columns of --use-columns; add --use-columns, or leave it out")
    from pplm.jobs.input_file import PromptsFile

    used = () if columns is None else tuple(dict.fromkeys(name.strip() for name in columns.split(",")))
    check_columns(used, column)
    source = PromptsFile(path, None if file_format is None else f".{file_format}", column)
    if resume and source.is_stdin:
        raise InputError("--resume needs prompts that can be read again; write them to a file first")
    return FileJob(source, used, allow_files, output, resume, retry_errors, overwrite)
