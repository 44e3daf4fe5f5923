"""The child run of one trial in MLflow: find or create it, log the metrics it lacks, and close it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ipgl.core.colours import method_colours
from ipgl.evaluation.run_result import RunResult
from ipgl.tracking.base import DataView, RunView
from ipgl.tracking.datasets import dataset_input
from ipgl.tracking.group_table import group_table
from ipgl.tracking.mlflow_values import ROW_MARKER, curve_points, outcome_points, point_batches, row_points
from ipgl.tracking.opened_study import OpenedStudy
from ipgl.tracking.recorded_state import RecordedRun
from ipgl.tracking.tags import end_tags, run_name, run_start, run_tags
from ipgl.tracking.writer import Writer

if TYPE_CHECKING:
    from mlflow.entities import Run

_STATES = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_CONFIDENCE = 0.95  # of a result that does not say which level its study wants


class RunRecorder:
    """Records the runs of one opened study."""

    def __init__(self, writer: Writer, study: OpenedStudy) -> None:
        """Remember the study; nothing is requested yet."""
        self._writer = writer
        self._study = study
        self._colours = method_colours(study.view.methods)
        self._verified: set[str] = set()

    def record(self, run: RunView) -> None:
        """Bring one run up to date: create it, log the rows that it lacks, and close it if it has ended."""
        known = self._study.recorded.runs.get(run.key)
        if known is not None and known.closed:
            return
        if known is None or run.key not in self._verified:
            known = self._find_or_create(run)
        if known.closed:
            return
        missing = [row for row in run.rows if row["step"] > known.last_step]
        for batch in point_batches(row_points(row) for row in missing):
            self._writer.log_points(known.run_id, batch)
            known.last_step = max(point.step for point in batch)
        if run.result is not None:
            self._close(known.run_id, run, run.result)
            known.closed = True
        if missing or known.closed:
            self._study.save()

    def forget_verified(self) -> None:
        """Ask the server about every run again when it is next recorded."""
        self._verified.clear()

    def _find_or_create(self, run: RunView) -> RecordedRun:
        """The run as the server knows it, since the file may lag behind the server or be lost."""
        study = self._study
        identity = {"ipgl.execution": study.view.execution, "ipgl.trial": run.key}
        found = self._writer.search(study.experiment_id, identity)
        if found:
            known = found[0]
            recorded = self._recorded_on_server(known)
            if not recorded.closed and known.info.status != "RUNNING":
                self._writer.reopen(recorded.run_id)
        else:
            tags = identity | run_tags(study.view, run, study.run_id, self._colour(run.label))
            known = self._writer.create(study.experiment_id, run_name(run), tags, run_start(run))
            recorded = RecordedRun(run_id=known.info.run_id)
        if not recorded.closed:
            self._writer.log_missing_parameters(known, run.parameters)
        study.recorded.runs[run.key] = recorded
        self._verified.add(run.key)
        study.save()
        return recorded

    def _recorded_on_server(self, run: Run) -> RecordedRun:
        run_id = run.info.run_id
        steps = [metric.step for metric in self._writer.client.get_metric_history(run_id, ROW_MARKER)]
        # `finish` writes the tag before the state: only both together mean that nothing is missing.
        closed = run.data.tags.get("ipgl.status") in _STATES and run.info.status in _STATES.values()
        return RecordedRun(run_id=run_id, last_step=max(steps, default=-1), closed=closed)

    def _colour(self, label: str) -> str:
        if label not in self._colours:
            self._colours = method_colours([*self._colours, label])
        return self._colours[label]

    def _close(self, run_id: str, run: RunView, result: RunResult) -> None:
        curves = (curve_points(name, curve, result.finished_at) for name, curve in result.curves.items())
        # Joined into few calls: the time of a call hardly depends on the number of points.
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
            for run in (run_id, self._study.run_id):
                self._writer.log_dataset(run, dataset)
