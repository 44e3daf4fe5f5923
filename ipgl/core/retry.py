"""Retries of storage access, for errors that are transient, as those of network file systems often are."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

_R = TypeVar("_R")

_TRANSIENT = {
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EBUSY",
        "ECONNRESET",
        "EHOSTDOWN",
        "EINTR",
        "EIO",
        "ENOTCONN",
        "EREMOTEIO",
        "ESTALE",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
}
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_WAITS = (0.1, 0.5, 2.0)  # seconds; after a longer outage the trial is started again


def retrying(access: Callable[[], _R], any_error: bool = False) -> _R:
    """Call `access`, again after 0.1, 0.5 and 2 s if it fails with a transient error, and return its result.

    Args:
        access: The access; called up to four times.
        any_error: Treat every `OSError` as transient, except a missing file and a missing permission. Libraries for
            remote storage often give no error number.

    Raises:
        OSError: `access` failed four times, or with an error that is not transient.
    """
    for wait in _WAITS:
        try:
            return access()
        except OSError as error:
            definite = isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
            if error.errno not in _TRANSIENT and (definite or not any_error):
                raise
            time.sleep(wait)
    return access()


def is_permanent(error: BaseException | None) -> bool:
    """Whether later writes would fail, too: the disk is full, a quota is used up, or the file system is read-only."""
    return isinstance(error, OSError) and error.errno in _PERMANENT
