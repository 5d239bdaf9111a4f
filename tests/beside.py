"""Which tests may run beside which, when pytest-xdist runs them in several processes of one machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def room(folder: Path, *, alone: bool) -> Iterator[None]:
    """Share the machine while the block runs; with `alone`, wait until the others have left and keep new ones out.

    The processes share `folder`. Whoever enters passes the door one by one, so that a test that waits for an empty room
    holds the door and is not overtaken for ever.
    """
    with (folder / "door.lock").open("w") as door, (folder / "room.lock").open("w") as inside:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield  # closing the files opens the locks
