"""Registry of trackers by the name that a study file gives. Importing it does not import mlflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from ipgl.config import TrackingSettings
from ipgl.core.registry import lookup
from ipgl.tracking.base import Tracker
from ipgl.tracking.mlflow_tracker import MlflowTracker
from ipgl.tracking.none_tracker import NoneTracker
from ipgl.tracking.store import locate

TrackerFactory: TypeAlias = Callable[[TrackingSettings, Path, Path], Tracker]


def _mlflow(settings: TrackingSettings, storage: Path, recorded: Path) -> Tracker:
    return MlflowTracker(locate(storage, settings.uri), settings.experiment, recorded)


def _none(settings: TrackingSettings, storage: Path, recorded: Path) -> Tracker:
    return NoneTracker()


TRACKERS: dict[str, TrackerFactory] = {"mlflow": _mlflow, "none": _none}


def make_tracker(settings: TrackingSettings, storage: Path, recorded: Path) -> Tracker:
    """Build the tracker that a study file names; nothing is contacted yet.

    Args:
        settings: The study file's `tracking` section.
        storage: Folder of all studies; it holds the default database.
        recorded: File that holds what has been recorded of this study.

    Raises:
        UnknownNameError: No such tracker; the message lists the choices.
        TrackingError: `settings.uri` is no address that MLflow can use.
    """
    return lookup("tracker", TRACKERS, settings.name)(settings, storage, recorded)
