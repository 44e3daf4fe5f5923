"""The lock of a study: at most one process at a time runs, resumes or synchronises it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipgl.core.errors import StudyStateError
from ipgl.core.locks import exclusive
from ipgl.storage.study_dir import StudyFolder


def lock_file(folder: StudyFolder) -> Path:
    """The lock file; where the storage is a URI, it excludes processes of this machine only."""
    return folder.remote.lock(folder.name) if folder.remote else folder.path / ".lock"


@contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """Hold the lock of a study; the system releases it when the process ends, even if it is killed.

    Raises:
        StudyStateError: Another process holds it; the message names that process.
        OSError: The lock file cannot be made.
    """
    path = lock_file(folder)
    with exclusive(path, wait=False) as held:
        if not held:
            owner = json.loads(path.read_text(encoding="utf-8") or "{}").get("pid", "unknown")
            raise StudyStateError(
                f"{folder.path}: the study is running now (process {owner}); wait for it, or stop that process"
            )
        path.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        yield
