"""Synchronisation of a study on storage with MLflow, at the study's own address or another one."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ipgl.core.errors import StudyStateError, TrackingError
from ipgl.storage.study_dir import StudyFolder
from ipgl.storage.study_lock import locked
from ipgl.study.runner import require_state, stored_plan
from ipgl.study.study_tracker import StudyTracker
from ipgl.tracking import locate, make_tracker


@dataclass(frozen=True)
class SyncResult:
    """Result of `sync_study`.

    Attributes:
        links: Addresses of the study in the tracker's user interface, by title.
        runs: Number of runs that were synchronised.
        warnings: What could not be recorded, one sentence each.
    """

    links: dict[str, str]
    runs: int
    warnings: list[str]


def sync_study(folder: StudyFolder, uri: str | None = None) -> SyncResult:
    """Record the present state of a study, which may be unfinished but must not be running.

    Args:
        folder: The study.
        uri: MLflow server or database; None for that of the study file.

    Raises:
        StudyStateError: There is no such study, it is running, or its files cannot be read.
        TrackingError: The study has no tracker and `uri` is None, or the tracker cannot be used.
    """
    state, plan = require_state(folder), stored_plan(folder)
    settings = plan.config.tracking
    if uri is not None:
        settings = settings.model_copy(update={"name": "mlflow", "uri": uri})
    elif settings.name == "none":
        raise TrackingError(
            f"{folder.files.source}: the study is not tracked (`tracking: {{name: none}}`); "
            "name a server or database with --uri"
        )
    with locked(folder):
        tracker = make_tracker(
            settings, folder.path.parent, _cursor(folder, plan.config.tracking.uri, settings.uri)
        )
        study = StudyTracker(
            tracker, plan, folder, str(state["execution"]), float(state["created_at"]), _fingerprint(folder)
        )
        study.open()
        trials = study.trials()
        for trial in trials.values():
            study.show(trial)
        results = study.outcome()
        if results is not None and state["phase"] == "finished":
            study.close(results)
        else:
            tracker.interrupt()
    return SyncResult(tracker.links, len(trials), study.warnings)


def _cursor(folder: StudyFolder, own: str | None, uri: str | None) -> Path:
    """The file that stores how much of the study has been recorded at an address; one file per address."""
    if uri == own:
        return folder.files.tracking
    # Without credentials, since a hash of them could be attacked
    address = locate(folder.path.parent, uri).display_uri
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    return folder.files.tracking.with_stem(f"{folder.files.tracking.stem}-{digest}")


def _fingerprint(folder: StudyFolder) -> str:
    """The data's fingerprint, from the first readable result."""
    for path in sorted(folder.path.glob("trials/*/result.json")):
        with suppress(StudyStateError):
            result = folder.trial(path.parent.name).read_result()
            if result is not None and result.data_fingerprint:
                return result.data_fingerprint
    return ""
