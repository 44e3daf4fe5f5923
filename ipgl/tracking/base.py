"""What a tracker is told: a study, its runs as they stand on storage, and at the end the whole outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ipgl.config import Phase
from ipgl.evaluation.result import RunResult
from ipgl.evaluation.summary import StudyResults


@dataclass(frozen=True)
class StudyView:
    """One study as the tracker's parent run shows it.

    Attributes:
        execution: Names one execution of the study; resuming keeps it, a new start changes it.
        config: The study file as resolved, defaults included.
        environment: Versions, host and git revision (`git_revision`) by name.
        started_at: When the execution began, in seconds since the epoch; None is now.
    """

    study: str
    execution: str
    question: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    data_fingerprint: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    started_at: float | None = None


@dataclass(frozen=True)
class RunView:
    """One run as it stands on storage now.

    Attributes:
        key: Unique in its study and stable over restarts.
        label: The method's name in the study file; `method` is the registry entry.
        number: Order in which the study started its runs.
        parameters: Flat settings; a value longer than 500 characters is cut.
        rows: History so far, by rising `step`; each row holds `step`, `epoch`, `time` (seconds since the
            epoch) and float metrics.
        result: Set once the run has ended.
        artifacts: Files to attach once, when the run has ended.
        started_at: Seconds since the epoch; None takes the result's or the first row's time.
    """

    key: str
    label: str
    method: str
    phase: Phase
    number: int
    seed: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, float]] = ()
    result: RunResult | None = None
    artifacts: Sequence[Path] = ()
    started_at: float | None = None


class Tracker(Protocol):
    """Keeps a browsable copy of what stands on storage; the copy may lag behind but never holds anything twice.

    One process, the study's driver, calls it. Every method may be called again with the same or newer views
    after a crash. Any of them raises `TrackingError` when the server or database cannot be used; the study can
    go on without it, because the next `record` brings the copy up to date.
    """

    def check(self) -> None:
        """Find out within seconds whether the server or database can be used, and create a local one.

        Raises:
            TrackingError: It cannot be used; the message names the place and the next step.
        """

    def open_study(self, study: StudyView) -> None:
        """Find or create the study's run and mark it as running; comes before the methods below."""

    def record(self, run: RunView) -> None:
        """Bring one run up to date; a run that has ended is closed and never touched again."""

    def close_study(
        self, results: StudyResults, artifacts: Sequence[Path] = (), figures: Mapping[str, Any] | None = None
    ) -> None:
        """Write the outcome, files and Plotly figures (by name) to the study's run and mark it as finished."""

    def interrupt(self) -> None:
        """Mark the study's run and its unfinished runs as stopped; `open_study` undoes that on resume."""

    @property
    def links(self) -> dict[str, str]:
        """Printable title -> address or command; empty before `open_study`."""
