"""Storage that fails: for a moment, as network storage does, or until somebody mends it."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

_R = TypeVar("_R")

_PASSING = {
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
_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_WAITS = (0.1, 0.5, 2.0)  # seconds; longer outages are left to the trial's next start


def retrying(access: Callable[[], _R], any_error: bool = False) -> _R:
    """What `access` gives; if it fails as storage does for a moment, it is tried again after 0.1, 0.5 and 2 s.

    Args:
        access: May be called up to four times.
        any_error: Take every error for one that passes, but those that say what is (not) there or allowed: storage
            behind a network says little of its failures.

    Raises:
        OSError: It failed four times, or in a way that does not pass.
    """
    for wait in _WAITS:
        try:
            return access()
        except OSError as error:
            telling = isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
            if error.errno not in _PASSING and (telling or not any_error):
                raise
            time.sleep(wait)
    return access()


def is_permanent(error: BaseException | None) -> bool:
    """Whether every further write will fail alike: the disk is full, a quota is used up, or it is read-only."""
    return isinstance(error, OSError) and error.errno in _LASTING
