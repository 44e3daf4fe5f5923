"""One process at a time, where several would do the same work."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path`, which stays behind; the system lets go of it when the process ends, however it ends.

    Args:
        path: The lock file.
        wait: Whether to wait for a process that holds it.

    Yields:
        Whether it is held: always, if waited for.

    Raises:
        OSError: The file cannot be made, or its file system knows no locks.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
