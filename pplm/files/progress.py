"""One progress bar for everything that takes long: on a terminal it moves, in a log it prints a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_EVERY = 30.0
"""Seconds between two lines where stderr is not a terminal."""


OnProgress = Callable[..., None]
"""Takes (done, total) and, optionally, a text to show instead of these numbers and the time left."""


@contextmanager
def progress_bar(label: str, unit: str = "", *, shown: bool = True) -> Iterator[OnProgress]:
    """Show a bar on stderr while the block runs, and yield the function that moves it.

    Parameters
    ----------
    label
        What is being done, such as "generating".
    unit
        What is counted, such as "texts".
    shown
        False shows nothing, as in every process but the first.

    """
    console = Console(stderr=True, quiet=not shown)
    columns = (TextColumn(label), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    last = time.monotonic()
    # Off a terminal there is no bar, because its end would leave a blank line.
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("", total=None)

        def move(done: float, total: float, state: str | None = None) -> None:
            nonlocal last
            bar.update(task, completed=done, total=total)
            if state is None:
                left = bar.tasks[0].time_remaining
                state = f"{done:,}/{total:,} {unit}" + (f", {timedelta(seconds=round(left))} left" if left else "")
            bar.update(task, description=state)
            if not console.is_terminal and time.monotonic() - last > _EVERY:
                last = time.monotonic()
                console.print(f"{label}: {state}", highlight=False, markup=False, soft_wrap=True)

        yield move
