"""Lock files that exclude other processes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path`; the system releases it when the process ends, even if it is killed.

    The file is made if it is missing, and is not removed.

    Args:
        path: The lock file.
        wait: Wait until no other process holds the lock.

    Yields:
        Whether the lock is held. Always True with `wait`; without it, False if another process holds the lock, or if
        the file system has no locks.

    Raises:
        OSError: The file cannot be made; or, with `wait`, its file system has no locks.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            if wait:
                raise
            held = False
        yield held
