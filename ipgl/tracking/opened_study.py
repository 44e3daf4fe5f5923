"""The study's parent run in MLflow: find or create it, and stop child runs that were left unfinished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipgl.tracking.base import StudyView
from ipgl.tracking.mlflow_values import study_parameters
from ipgl.tracking.recorded_state import RecordedStudy, load_recorded, save_recorded
from ipgl.tracking.tags import environment_tags, study_tags
from ipgl.tracking.ui_links import shared_views
from ipgl.tracking.writer import Writer


@dataclass(frozen=True)
class OpenedStudy:
    """A study whose run exists in MLflow.

    Attributes:
        view: The study.
        recorded: What MLflow holds of it; updated with each recorded run.
        file: Where `save` writes `recorded`.
    """

    view: StudyView
    recorded: RecordedStudy
    file: Path

    @property
    def experiment_id(self) -> str:
        """Id of the MLflow experiment."""
        return self.recorded.experiment_id

    @property
    def run_id(self) -> str:
        """MLflow id of the study's run."""
        return self.recorded.parent

    def save(self) -> None:
        """Write what has been recorded to the file.

        Raises:
            OSError: The folder cannot be written.
        """
        save_recorded(self.recorded, self.file)


def open_study(writer: Writer, experiment: str, file: Path, view: StudyView) -> OpenedStudy:
    """Find or create the experiment and the study's run, and mark the run as running.

    Args:
        writer: Server or database.
        experiment: Name of the experiment; created if missing.
        file: What has been recorded before, if anything.
        view: The study.
    """
    recorded = _usable_record(writer, experiment, file, view)
    recorded.parent = recorded.parent or _find_or_create_run(writer, recorded.experiment_id, view)
    writer.set_views(recorded.experiment_id, shared_views(view, recorded.parent))
    writer.reopen(recorded.parent)
    writer.set_tags(recorded.parent, environment_tags(view.environment))  # it may resume on another machine
    study = OpenedStudy(view, recorded, file)
    study.save()
    return study


def stop_unfinished_runs(writer: Writer, study: OpenedStudy, status: str) -> None:
    """Close the trials' runs that MLflow shows as running, with `ipgl.status` set to `status`."""
    running = writer.search(study.experiment_id, {"ipgl.execution": study.view.execution}, running=True)
    for run in running:
        if run.info.run_id != study.run_id:
            writer.finish(run.info.run_id, "KILLED", {"ipgl.status": status})


def _usable_record(writer: Writer, experiment: str, file: Path, view: StudyView) -> RecordedStudy:
    """The file's content if it belongs to this execution and its run still exists, else an empty record."""
    experiment_id = writer.find_or_create_experiment(experiment)
    empty = RecordedStudy(
        store=writer.store.display_uri, experiment_id=experiment_id, execution=view.execution
    )
    recorded = load_recorded(file)
    same = recorded.model_copy(update={"parent": "", "runs": {}}) == empty
    return recorded if same and recorded.parent and writer.exists(recorded.parent, view.execution) else empty


def _find_or_create_run(writer: Writer, experiment_id: str, view: StudyView) -> str:
    identity = {"ipgl.execution": view.execution, "ipgl.kind": "study"}
    found = writer.search(experiment_id, identity)
    tags = identity | study_tags(view)
    run = found[0] if found else writer.create(experiment_id, view.study, tags, view.started_at)
    writer.log_missing_parameters(run, study_parameters(view))
    return str(run.info.run_id)
