"""The texts of a job on disk: lines in the order of the prompts, and beside them what is needed to resume.

FILE grows by whole prompts, in order. FILE.part holds lines that are made but wait for an earlier prompt, so that a job
that was killed need not make them again; it is deleted when none waits. FILE.job.json holds the settings
(`settings_file`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.files.lines import cut_half_line, write_whole
from pplm.jobs.ledger import Ledger, Outcome
from pplm.jobs.requests import FAILED, Key, Request
from pplm.models.processes import Processes


def settings_path(output: Path) -> Path:
    """Return the path of the settings that the texts of a file were made with."""
    return output.with_name(f"{output.name}.job.json")


def waiting_path(output: Path) -> Path:
    """Return the path of the lines that wait for an earlier prompt."""
    return output.with_name(f"{output.name}.part")


class JobFile(Ledger[bytes]):
    """The ledger of a job whose lines go to a file; of several processes only the main one reads and writes.

    Parameters
    ----------
    form
        Turns an outcome into a line.
    output
        The file. A job that writes to anything but a regular file, such as a pipe, cannot be resumed.
    processes
        The processes that share the job.

    Attributes
    ----------
    failed
        Number of prompts whose line holds an error.
    lines
        Number of lines in the file.

    """

    def __init__(self, form: Callable[[Outcome], bytes], output: Path, processes: Processes) -> None:
        super().__init__(form)
        self.output, self._processes = output, processes
        self._waits = waiting_path(output)
        self._regular = not output.exists() or output.is_file()
        self.failed = self.lines = 0
        self._found: list[int] = []  # number of lines of each prompt in the file, or `_ERROR`

    def resume(self, *, retry_errors: bool) -> None:
        """Read what an earlier run left; `retry_errors` drops the lines of failed prompts: they are tried again.

        Raises
        ------
        InputError
            If a file is damaged, or cannot be read or written.

        """
        self._processes.on_main(lambda: self._take_up(retry_errors))
        state = (self.given, self.skipped, list(self.waiting), self.failed, self.lines)
        self.given, self.skipped, keys, self.failed, self.lines = self._processes.share(state)
        if not self._processes.main:
            self.waiting = dict.fromkeys(keys, b"")

    def check_given(self, requests: Iterable[Request]) -> None:
        """Refuse a file in which a finished prompt has another number of lines than this job makes.

        Only the main process may call it, after `resume`.

        Raises
        ------
        InputError
            Naming the prompt.

        """
        for request, found in zip(requests, self._found[: self.given], strict=False):
            if found not in (_ERROR, request.texts):
                lacks = f"has {found} lines of prompt {request.number}, this job makes {request.texts}"
                raise InputError(f"{self.output} {lacks}; {_REMEDY}")

    def start(self) -> None:
        """Empty the file and drop waiting lines; the settings go first, so that they never describe other texts."""
        self._processes.on_main(self._empty)

    def keep(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Add new lines, in memory and in FILE.part."""
        new = [(key, line) for key, line in items if not self.has(key)]
        super().keep(new)
        if self._processes.main and self._regular and new:
            self._append(self._waits, [b"%d %d %s" % (*key, line) for key, line in new])

    def write(self, window: Sequence[Request]) -> None:
        """Move the lines whose turn it is from waiting to the file."""
        before = {key for key in self.waiting if key[1] == FAILED}
        lines = list(self.release(window))
        if self._processes.main and lines:
            self._append(self.output, lines)
        self.lines += len(lines)
        self.failed += len(before - set(self.waiting))
        if self._processes.main and self._regular and lines and not self.waiting:
            with _usable(self._waits):
                self._waits.unlink(missing_ok=True)

    def _append(self, path: Path, lines: Sequence[bytes]) -> None:
        with _usable(path), path.open("ab", buffering=0) as file:
            for line in lines:
                write_whole(file, line)
            if self._regular:
                os.fsync(file.fileno())

    def _empty(self) -> None:
        if self._regular:
            with _usable(self.output):
                settings_path(self.output).unlink(missing_ok=True)
                self._waits.unlink(missing_ok=True)
                self.output.write_bytes(b"")

    def _take_up(self, retry_errors: bool) -> None:
        with _usable(self.output):
            self.output.touch()
            cut_half_line(self.output)
            if self._waits.is_file():
                cut_half_line(self._waits)
                with self._waits.open("rb") as file:
                    for number, line in enumerate(file, start=1):
                        key, text = _split(line, f"{self._waits}, line {number}")
                        self.waiting[key] = text
            self._read_output(retry_errors)
        for key in [key for key in self.waiting if self.is_out(key) or (retry_errors and key[1] == FAILED)]:
            del self.waiting[key]

    def _read_output(self, retry_errors: bool) -> None:
        """Count what the file holds; `retry_errors` cuts it at the first error; good lines after that wait again."""
        number, position, offset, cut = -1, 0, 0, None
        with self.output.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                found, is_error = _read(line, f"{self.output}, line {line_number}")
                if found not in (number, number + 1):
                    raise InputError(f"{self.output}, line {line_number} is out of order for this job; {_REMEDY}")
                position = position + 1 if found == number else 0
                number = found
                if position == 0:
                    self._found.append(0)
                self._found[-1] = _ERROR if is_error else position + 1
                if retry_errors and is_error and cut is None:
                    cut, self.given, self.skipped = offset, number, 0
                if cut is None:
                    self.lines, self.failed = line_number, self.failed + is_error
                    self.given, self.skipped = (number + 1, 0) if is_error else (number, position + 1)
                elif not is_error:
                    self.waiting[number, position] = line
                offset += len(line)
        if cut is not None:
            kept = {key: line for key, line in self.waiting.items() if key[1] != FAILED}
            with atomic_file(self._waits) as new:
                new.write_bytes(b"".join(b"%d %d %s" % (*key, line) for key, line in kept.items()))
            os.truncate(self.output, cut)


_ERROR = 0
_REMEDY = "start again with --overwrite, or choose another output"


def _read(line: bytes, place: str) -> tuple[int, bool]:
    """Return the number of a line's prompt, and whether it failed."""
    try:
        record = json.loads(line)
        return int(record["prompt_index"]), "error" in record
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} is damaged ({error!r}); {_REMEDY}") from error


def _split(line: bytes, place: str) -> tuple[Key, bytes]:
    try:
        number, position, text = line.split(b" ", 2)
        return (int(number), int(position)), text
    except ValueError as error:
        raise InputError(
            f"{place} is damaged ({error!r}); delete that line, and its text is generated again"
        ) from error


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn a file that cannot be read or written into an error that the user can act on."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be used: {error.strerror or error}; put that right and go on with --resume"
        ) from error
