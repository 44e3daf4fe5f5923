"""The MLflow tracker: a parent run for the study and a child run for each trial, each recorded exactly once.

How "exactly once" holds when the driver is killed anywhere:

- a run is found by its tags before it is created, and created without HTTP retries, so it exists at most once;
- metrics carry the times recorded on storage, and MLflow drops a point that equals one it has;
- on the first touch after a restart the server is asked which steps a run has, so an evaluation that was
  repeated from a checkpoint (same step, new time) is not logged beside its first version;
- tags, artifacts and the final state are overwritten by equal ones, and the closing state is written last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ipgl.evaluation.study_summary import StudyResults
from ipgl.tracking.base import ModelView, RunView, StudyView
from ipgl.tracking.client import forbid_retries, probe, set_environment, tracking_errors
from ipgl.tracking.machine_metrics import MachineSampler
from ipgl.tracking.opened_study import OpenedStudy, open_study, stop_unfinished_runs
from ipgl.tracking.run_recorder import RunRecorder
from ipgl.tracking.store import Store
from ipgl.tracking.study_outcome import (
    RegisteredModels,
    finish_study,
    register_models,
    write_metrics_and_files,
)
from ipgl.tracking.ui_links import models_link, study_links
from ipgl.tracking.writer import Writer

if TYPE_CHECKING:
    import plotly.graph_objects as go


class MlflowTracker:
    """Records one study through `MlflowClient`; no active run, no global tracking address."""

    def __init__(self, store: Store, experiment: str, recorded: Path) -> None:
        """Remember where to record; nothing is contacted or imported yet.

        Sets MLflow's environment variables for the whole process, so make the tracker in the main thread; its methods
        may then be called from another one.

        Args:
            store: Server or database.
            experiment: Name of the experiment that holds the study; created if missing.
            recorded: File that holds what has been recorded of the study.
        """
        set_environment()
        forbid_retries()
        self._store = store
        self._experiment = experiment
        self._file = recorded
        self._writer = Writer(store)
        self._machine = MachineSampler()
        self._opened: tuple[OpenedStudy, RunRecorder] | None = None
        self._models = RegisteredModels({}, ())
        self._warnings: dict[str, None] = {}

    def check(self) -> None:
        """Reach the server or database once, in about five seconds at most; a missing SQLite file is created.

        Raises:
            TrackingError: It cannot be used; the message names the place and the next step.
        """
        with tracking_errors(self._store, "use it"):
            probe(self._store)

    def open_study(self, study: StudyView) -> None:
        """Find or create the experiment and the study's run, and mark the run as running.

        Raises:
            TrackingError: The server or database refuses, or the experiment has been deleted there.
        """
        with tracking_errors(self._store, f"open study {study.study!r}"):
            opened = open_study(self._writer, self._experiment, self._file, study)
        self._opened = opened, RunRecorder(self._writer, opened)

    def record(self, run: RunView) -> None:
        """Bring one run up to date: create it, log the rows it lacks, and close it if it has ended.

        Raises:
            TrackingError: The server or database refuses; calling again later continues where this stopped.
        """
        _, recorder = self._require_opened()
        with tracking_errors(self._store, f"record run {run.key!r}"):
            recorder.record(run)

    def observe_machine(self) -> None:
        """Log this machine's load as system metrics of the study's run, every ten seconds at most.

        The step is the number of seconds since the study began, which rises over restarts by itself.

        Raises:
            TrackingError: The server or database refuses; this sample is lost, but no result.
        """
        study, _ = self._require_opened()
        points = self._machine.points_if_due(study.view.started_at)
        if points:
            with tracking_errors(self._store, "log system metrics"):
                self._writer.log_points(study.run_id, points)

    def close_study(
        self,
        results: StudyResults,
        artifacts: Sequence[Path] = (),
        figures: Mapping[str, go.Figure] | None = None,
        answer: Sequence[str] = (),
        models: Sequence[ModelView] = (),
    ) -> None:
        """Write the outcome to the study's run: metrics, a note with the table, files, figures; then finish it.

        The models come last but for the closing state; one that the server refuses is a warning.

        Args:
            results: The study's outcome.
            artifacts: Files to attach, such as the study file; credentials of the tracking address are removed.
            figures: Plotly figures by name, attached as pages that need no network.
            answer: Sentences that answer the question; the note begins with them.
            models: Registered under the study's name, one version each, by `models.register`.

        Raises:
            TrackingError: The server or database refuses.
        """
        study, _ = self._require_opened()
        with tracking_errors(self._store, f"write the outcome of study {results.summary.study!r}"):
            self._stop_unfinished_runs("abandoned")
            write_metrics_and_files(self._writer, study, results, artifacts, figures or {})
            self._models = register_models(self._writer, study, models, results.runs)
            self._warnings |= dict.fromkeys(self._models.warnings)
            finish_study(self._writer, study, results, artifacts, answer, self._models)

    def interrupt(self) -> None:
        """Show the study and its unfinished runs as killed; `open_study` and `record` undo that on resume.

        Raises:
            TrackingError: The server or database cannot be used.
        """
        if self._opened is None:
            return
        study, _ = self._opened
        with tracking_errors(self._store, "mark the study as interrupted"):
            # With its short timeout, so that Ctrl-C does not wait for a server that does not respond.
            probe(self._store)
            self._stop_unfinished_runs("interrupted")
            self._writer.finish(study.run_id, "KILLED", {"ipgl.status": "interrupted"})

    @property
    def links(self) -> dict[str, str]:
        """Printable title -> address (without credentials) or command; empty before `open_study`."""
        if self._opened is None:
            return {}
        study, _ = self._opened
        links = study_links(self._store, study.experiment_id, study.view, study.run_id)
        return links | ({"Models": models_link(self._store, study.view.study)} if self._models.uris else {})

    @property
    def warnings(self) -> list[str]:
        """One sentence for each model that could not be registered."""
        return list(self._warnings)

    def _require_opened(self) -> tuple[OpenedStudy, RunRecorder]:
        if self._opened is None:
            raise RuntimeError("open_study must come first")
        return self._opened

    def _stop_unfinished_runs(self, status: str) -> None:
        """Show no trial as running once the driver has ended."""
        study, recorder = self._require_opened()
        stop_unfinished_runs(self._writer, study, status)
        recorder.forget_verified()
