"""A study in MLflow: one run for the study, one below it for each of its trials, each entry exactly once.

How "exactly once" holds when the driver is killed anywhere:

- a run is found by its tags before it is created, and created without HTTP retries, so it exists at most once;
- metrics carry the times that stand on storage, and MLflow drops a point that equals one it has;
- on the first touch after a restart the server is asked which steps a run has, so an evaluation that was
  repeated from a checkpoint (same step, new time) is not logged beside its first version;
- tags, artifacts and the final state are overwritten by equal ones, and the closing state is written last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ipgl.core.colours import method_colours
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import StudyResults
from ipgl.tracking.base import DataView, ModelView, RunView, StudyView
from ipgl.tracking.client import http_limits, probe, tracking_errors
from ipgl.tracking.datasets import dataset_input
from ipgl.tracking.group_table import group_table
from ipgl.tracking.machine_metrics import Machine
from ipgl.tracking.mlflow_values import (
    ROW_MARKER,
    Point,
    bunches,
    curve_points,
    finite,
    milliseconds,
    outcome_points,
    row_points,
    scalar_points,
    study_parameters,
    summary_points,
)
from ipgl.tracking.models import ModelError, legal_aliases
from ipgl.tracking.recorded_state import Cursor, RunCursor, load_cursor, save_cursor
from ipgl.tracking.store import Store
from ipgl.tracking.study_description import study_note
from ipgl.tracking.tags import (
    end_tags,
    environment_tags,
    model_tags,
    run_name,
    run_start,
    run_tags,
    study_tags,
)
from ipgl.tracking.ui_links import artifact_link, models_link, shared_views, study_links
from ipgl.tracking.writer import Writer

_STATES = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_INTERRUPT_TIMEOUT_SECONDS = 5
_OBSERVE_SECONDS = 10
_CONFIDENCE = 0.95  # of a result that does not say which level its study wants


class MlflowTracker:
    """Records one study through `MlflowClient`; no active run, no global tracking address."""

    def __init__(self, store: Store, experiment: str, cursor: Path) -> None:
        """Remember where to record; nothing is contacted or imported yet.

        Args:
            store: Server or database.
            experiment: Name of the experiment that holds the study; created if missing.
            cursor: File that holds how far the study has been recorded.
        """
        self._store = store
        self._experiment = experiment
        self._cursor_path = cursor
        self._writer = Writer(store)
        self._cursor = Cursor()
        self._study: StudyView | None = None
        self._colours: dict[str, str] = {}
        self._touched: set[str] = set()
        self._warnings: list[str] = []
        self._loads: dict[str, str] = {}
        self._machine: Machine | None = None
        self._observed_at = 0.0

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
            self._touched.clear()
            self._colours = method_colours(study.config.get("methods", {}))
            cursor = self._usable_cursor(study)
            cursor.parent = cursor.parent or self._find_or_create_parent(study, cursor.experiment_id)
            self._writer.set_views(cursor.experiment_id, shared_views(study, cursor.parent))
            self._writer.reopen(cursor.parent)
            self._writer.set_tags(cursor.parent, environment_tags(study.environment))  # resumed elsewhere
            save_cursor(cursor, self._cursor_path)
            self._study, self._cursor = study, cursor

    def record(self, run: RunView) -> None:
        """Bring one run up to date: create it, log the rows it lacks, and close it if it has ended.

        Raises:
            TrackingError: The server or database refuses; calling again later continues where this stopped.
        """
        study, entry = self._opened, self._cursor.runs.get(run.key)
        if entry is not None and entry.closed:
            return
        with tracking_errors(self._store, f"record run {run.key!r}"):
            if entry is None or run.key not in self._touched:
                entry = self._adopt_or_create(study, run)
            if entry.closed:
                return
            fresh = [row for row in run.rows if row["step"] > entry.last_step]
            for bunch in bunches(row_points(row) for row in fresh):
                self._writer.log_points(entry.run_id, bunch)
                entry.last_step = max(point.step for point in bunch)
            if run.result is not None:
                self._end(entry.run_id, run, run.result)
                entry.closed = True
            if fresh or entry.closed:
                save_cursor(self._cursor, self._cursor_path)

    def observe_machine(self) -> None:
        """Log this machine's load as system metrics of the study's run, every ten seconds at most.

        The step is the number of seconds since the study began, which rises over restarts by itself.

        Raises:
            TrackingError: The server or database refuses; this sample is lost, which no result is.
        """
        study, now = self._opened, time.time()
        if now - self._observed_at < _OBSERVE_SECONDS:
            return
        self._observed_at = now
        self._machine = self._machine or Machine()
        step = round(now - (study.started_at or now))
        points = [
            Point(name, finite(value), milliseconds(now), step)
            for name, value in self._machine.sample().items()
        ]
        with tracking_errors(self._store, "log system metrics"):
            self._writer.log_points(self._cursor.parent, points)

    def close_study(
        self,
        results: StudyResults,
        artifacts: Sequence[Path] = (),
        figures: Mapping[str, Any] | None = None,
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
        study, parent, summary = self._opened, self._cursor.parent, results.summary
        with tracking_errors(self._store, f"write the outcome of study {summary.study!r}"):
            self._stop_unfinished_runs(study, "abandoned")
            # A time that stands on storage, so that closing again after a crash logs the same points.
            ended = max((result.finished_at for result in results.runs), default=0.0)
            self._writer.log_points(parent, summary_points(summary, ended))
            self._writer.log_text(parent, summary.model_dump_json(indent=2), "summary.json")
            self._writer.attach(parent, artifacts)
            for name, figure in (figures or {}).items():
                self._writer.log_figure(parent, figure, name)
            self._writer.set_views(self._cursor.experiment_id, shared_views(study, parent, summary))
            self._loads = self._register(study, models, results.runs)
            report = next((path.name for path in artifacts if path.suffix == ".html"), "")
            link = artifact_link(self._cursor.experiment_id, parent, report) if report else ""
            note = study_note(summary, answer, self._loads, link)
            tags = {"mlflow.note.content": note, "ipgl.status": "completed"}
            self._writer.finish(parent, "FINISHED", tags, ended)

    def interrupt(self) -> None:
        """Show the study and its unfinished runs as killed; `open_study` and `record` undo that on resume.

        Raises:
            TrackingError: The server or database cannot be used.
        """
        if self._study is None:
            return
        with (
            tracking_errors(self._store, "mark the study as interrupted"),
            http_limits(retries=0, timeout_seconds=_INTERRUPT_TIMEOUT_SECONDS),
        ):
            self._stop_unfinished_runs(self._study, "interrupted")
            self._writer.finish(self._cursor.parent, "KILLED", {"ipgl.status": "interrupted"})

    @property
    def links(self) -> dict[str, str]:
        """Printable title -> address (without credentials) or command; empty before `open_study`."""
        if self._study is None:
            return {}
        links = study_links(self._store, self._cursor.experiment_id, self._study, self._cursor.parent)
        return links | ({"Models": models_link(self._store, self._study.study)} if self._loads else {})

    @property
    def warnings(self) -> list[str]:
        """Models that could not be registered, one sentence each."""
        return list(self._warnings)

    @property
    def _opened(self) -> StudyView:
        if self._study is None:
            raise RuntimeError("open_study must come first")
        return self._study

    def _usable_cursor(self, study: StudyView) -> Cursor:
        """The cursor file's content if it speaks of this execution and its run still exists, else an empty one."""
        experiment_id = self._writer.find_or_create_experiment(self._experiment)
        empty = Cursor(store=self._store.shown, experiment_id=experiment_id, execution=study.execution)
        cursor = load_cursor(self._cursor_path)
        same = cursor.model_copy(update={"parent": "", "runs": {}}) == empty
        return (
            cursor
            if same and cursor.parent and self._writer.exists(cursor.parent, study.execution)
            else empty
        )

    def _find_or_create_parent(self, study: StudyView, experiment_id: str) -> str:
        identity = {"ipgl.execution": study.execution, "ipgl.kind": "study"}
        found = self._writer.search(experiment_id, identity)
        if found:
            run = found[0]
        else:
            tags = identity | study_tags(study)
            run = self._writer.create(experiment_id, study.study, tags, study.started_at)
        self._writer.log_missing_parameters(run, study_parameters(study))
        return str(run.info.run_id)

    def _adopt_or_create(self, study: StudyView, run: RunView) -> RunCursor:
        """The run's entry as the server knows it; the cursor may lag behind or be lost."""
        identity = {"ipgl.execution": study.execution, "ipgl.trial": run.key}
        found = self._writer.search(self._cursor.experiment_id, identity)
        if found:
            known = found[0]
            entry = self._entry_of(known)
            if not entry.closed and known.info.status != "RUNNING":
                self._writer.reopen(entry.run_id)
        else:
            tags = identity | run_tags(study, run, self._cursor.parent, self._colour(run.label))
            known = self._writer.create(self._cursor.experiment_id, run_name(run), tags, run_start(run))
            entry = RunCursor(run_id=known.info.run_id)
        if not entry.closed:
            self._writer.log_missing_parameters(known, run.parameters)
        self._cursor.runs[run.key] = entry
        self._touched.add(run.key)
        save_cursor(self._cursor, self._cursor_path)
        return entry

    def _entry_of(self, known: Any) -> RunCursor:
        steps = [
            metric.step for metric in self._writer.client.get_metric_history(known.info.run_id, ROW_MARKER)
        ]
        # `finish` writes the tag before the state: only both together mean that nothing is missing.
        closed = known.data.tags.get("ipgl.status") in _STATES and known.info.status in _STATES.values()
        return RunCursor(run_id=known.info.run_id, last_step=max(steps, default=-1), closed=closed)

    def _colour(self, label: str) -> str:
        if label not in self._colours:
            self._colours = method_colours([*self._colours, label])
        return self._colours[label]

    def _end(self, run_id: str, run: RunView, result: RunResult) -> None:
        curves = (curve_points(name, curve, result.finished_at) for name, curve in result.curves.items())
        # In one call where they fit: what a call costs hardly depends on how much it holds.
        self._writer.log_points(run_id, chain(*curves, outcome_points(run, result)))
        if result.groups:
            confidence = result.config.get("evaluation", {}).get("confidence", _CONFIDENCE)
            self._writer.log_text(run_id, group_table(result, run.data, confidence), "groups.csv")
            self._log_data(run_id, run.data, result)
        self._writer.log_text(run_id, result.model_dump_json(indent=2), "result.json")
        self._writer.attach(run_id, [path for path in run.artifacts if path.name != "result.json"])
        self._writer.finish(run_id, _STATES[result.status], end_tags(result), result.finished_at)

    def _log_data(self, run_id: str, data: DataView | None, result: RunResult) -> None:
        if data is not None:
            dataset = dataset_input(data, result)
            for run in (run_id, self._cursor.parent):
                self._writer.log_dataset(run, dataset)

    def _register(
        self, study: StudyView, models: Sequence[ModelView], runs: Sequence[RunResult]
    ) -> dict[str, str]:
        """Label -> address under which its model is loaded."""
        aliases = legal_aliases(dict.fromkeys([*study.config.get("methods", {}), *(m.label for m in models)]))
        points = {run.trial: scalar_points(run) for run in runs}
        loads = {}
        for model in models:
            entry, alias = self._cursor.runs.get(model.trial), aliases[model.label]
            if entry is None:  # its result could not be read, which is somebody else's warning
                continue
            tags = model_tags(study, model)
            try:
                self._writer.register(
                    self._cursor.experiment_id,
                    entry.run_id,
                    model,
                    study.study,
                    alias,
                    tags,
                    points.get(model.trial, []),
                    study.question,
                )
            except ModelError as error:
                message = self._store.redact(
                    f"the model of {model.label!r} is not registered in MLflow: {error}"
                )
                if message not in self._warnings:
                    self._warnings.append(message)
                continue
            loads[model.label] = f"models:/{study.study}@{alias}"
        return loads

    def _stop_unfinished_runs(self, study: StudyView, status: str) -> None:
        """Nothing may look as if it ran when its driver has gone."""
        running = self._writer.search(
            self._cursor.experiment_id, {"ipgl.execution": study.execution}, running=True
        )
        for run in running:
            if run.info.run_id != self._cursor.parent:
                self._writer.finish(run.info.run_id, "KILLED", {"ipgl.status": status})
        self._touched.clear()
