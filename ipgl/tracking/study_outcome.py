"""The outcome of a study in MLflow: metrics, description, files and figures, and registered models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import StudyResults
from ipgl.tracking.base import ModelView
from ipgl.tracking.mlflow_values import scalar_points, summary_points
from ipgl.tracking.models import ModelError, legal_aliases
from ipgl.tracking.opened_study import OpenedStudy
from ipgl.tracking.study_description import study_note
from ipgl.tracking.tags import model_tags
from ipgl.tracking.ui_links import artifact_link, shared_views
from ipgl.tracking.writer import Writer

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class RegisteredModels:
    """What `register_models` did.

    Attributes:
        uris: Method label -> address that `mlflow.pyfunc.load_model` takes.
        warnings: A sentence for each model that could not be registered.
    """

    uris: Mapping[str, str]
    warnings: Sequence[str]


def end_time(results: StudyResults) -> float:
    """When the last run ended, in seconds since the epoch; 0 without runs.

    The time is taken from storage, so that closing again after a crash logs the same points.
    """
    return max((result.finished_at for result in results.runs), default=0.0)


def write_metrics_and_files(
    writer: Writer,
    study: OpenedStudy,
    results: StudyResults,
    artifacts: Sequence[Path],
    figures: Mapping[str, go.Figure],
) -> None:
    """Log the summary's metrics, attach files and figures, and let the run table show the study's metrics."""
    summary = results.summary
    writer.log_points(study.run_id, summary_points(summary, end_time(results)))
    writer.log_text(study.run_id, summary.model_dump_json(indent=2), "summary.json")
    writer.attach(study.run_id, artifacts)
    for name, figure in figures.items():
        writer.log_figure(study.run_id, figure, name)
    writer.set_views(study.experiment_id, shared_views(study.view, study.run_id, summary))


def register_models(
    writer: Writer, study: OpenedStudy, models: Sequence[ModelView], runs: Sequence[RunResult]
) -> RegisteredModels:
    """Register the models under the study's name, one version each; one that is refused becomes a warning."""
    labels = dict.fromkeys([*study.view.methods, *(model.label for model in models)])
    aliases = legal_aliases(labels)
    points = {run.trial: scalar_points(run) for run in runs}
    uris: dict[str, str] = {}
    warnings: list[str] = []
    for model in models:
        run, alias = study.recorded.runs.get(model.trial), aliases[model.label]
        if run is None:  # its result could not be read, which is reported where results are read
            continue
        try:
            writer.register(
                study.experiment_id,
                run.run_id,
                model,
                study.view.study,
                alias,
                model_tags(study.view, model),
                points.get(model.trial, []),
                study.view.question,
            )
        except ModelError as error:
            message = f"the model of {model.label!r} is not registered in MLflow: {error}"
            warnings.append(writer.store.redact(message))
            continue
        uris[model.label] = f"models:/{study.view.study}@{alias}"
    return RegisteredModels(uris, warnings)


def finish_study(
    writer: Writer,
    study: OpenedStudy,
    results: StudyResults,
    artifacts: Sequence[Path],
    answer: Sequence[str],
    models: RegisteredModels,
) -> None:
    """Write the note with the answer and the table, then mark the study's run as finished."""
    report = next((path.name for path in artifacts if path.suffix == ".html"), "")
    link = artifact_link(study.experiment_id, study.run_id, report) if report else ""
    note = study_note(results.summary, answer, models.uris, link)
    tags = {"mlflow.note.content": note, "ipgl.status": "completed"}
    writer.finish(study.run_id, "FINISHED", tags, end_time(results))
