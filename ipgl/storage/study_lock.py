"""One process at a time works on a study; the system lets go of it however that process ends."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ipgl.core.errors import StudyStateError
from ipgl.storage.study_folder import StudyFolder


@contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """Hold the study for this process.

    Raises:
        StudyStateError: Another process holds it; the message names that process.
    """
    with open(folder.lock, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = json.loads(file.read() or "{}").get("pid", "unknown")
            raise StudyStateError(
                f"{folder.path}: the study is running now (process {owner}); wait for it, or stop that process"
            ) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid()}))
        file.flush()
        yield
