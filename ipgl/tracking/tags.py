"""Names, start times and tags of MLflow runs. Tags are what runs are searched by and what table columns show."""

from __future__ import annotations

from collections.abc import Mapping

from ipgl.core.colours import STUDY_COLOUR
from ipgl.evaluation.run_result import RunResult
from ipgl.tracking.base import ModelView, RunView, StudyView
from ipgl.tracking.study_description import failure_line, failure_note, opening_note

# Older servers refuse longer tags.
LONGEST_TAG = 5000
# Known to the study's driver only; the trial's process adds the other environment tags when it ends.
_OF_THE_STUDY = ("git_revision", "ray_cluster")


def study_tags(study: StudyView) -> dict[str, str]:
    """Tags of the study's run, except for those that it is searched by."""
    return environment_tags(study.environment) | {
        "ipgl.study": study.study,
        "ipgl.status": "running",
        "ipgl.config_hash": study.config_hash,
        "ipgl.data_fingerprint": study.data_fingerprint,
        "mlflow.note.content": opening_note(study),
        "mlflow.runColor": STUDY_COLOUR,
        "mlflow.source.name": "ipgl",
    }


def run_tags(study: StudyView, run: RunView, parent: str, colour: str) -> dict[str, str]:
    """Tags of a trial's run when it begins, except for those that it is searched by."""
    return {
        "ipgl.study": study.study,
        "ipgl.kind": run.phase,
        "ipgl.label": run.label,
        "ipgl.method": run.method,
        "ipgl.number": str(run.number),
        "ipgl.seed": str(run.seed),
        "ipgl.status": "running",
        **environment_tags({name: study.environment.get(name, "") for name in _OF_THE_STUDY}),
        "mlflow.parentRunId": parent,
        "mlflow.runColor": colour,
        "mlflow.source.name": "ipgl",
    }


def end_tags(result: RunResult) -> dict[str, str]:
    """Tags of a trial's run when it has ended, with the reason unless it was completed."""
    tags = environment_tags(result.environment) | {
        "ipgl.status": result.status,
        "ipgl.config_hash": result.config_hash,
        "ipgl.data_fingerprint": result.data_fingerprint,
    }
    if result.status == "stopped":
        tags["ipgl.reason"] = "stopped early by the scheduler"
    if result.failure is not None:
        tags["ipgl.failure"] = result.failure.kind
        tags["ipgl.reason"] = failure_line(result.failure)
        tags["mlflow.note.content"] = failure_note(result.failure)
    return tags


def model_tags(study: StudyView, model: ModelView) -> dict[str, str]:
    """Tags of a registered model's version: its origin, and what it is searched by."""
    return {
        "ipgl.study": study.study,
        "ipgl.execution": study.execution,
        "ipgl.trial": model.trial,
        "ipgl.label": model.label,
        "ipgl.config_hash": study.config_hash,
        "ipgl.data_fingerprint": study.data_fingerprint,
        "ipgl.git_revision": study.environment.get("git_revision", ""),
    }


def environment_tags(environment: Mapping[str, str]) -> dict[str, str]:
    """`ipgl.environment.<name>` for each, and the git revision where MLflow's own column looks for it."""
    tags = {f"ipgl.environment.{name}": text for name, text in environment.items() if text}
    if revision := environment.get("git_revision"):
        tags["mlflow.source.git.commit"] = revision
    return tags


def run_name(run: RunView) -> str:
    """Display name in the run table: `ipg trial 007`, `ipg seed 3` or `ipg seed 3, other pairs`."""
    if run.phase == "search":
        return f"{run.label} trial {run.number:03d}"
    return f"{run.label} {run.title or f'seed {run.seed}'}"


def run_start(run: RunView) -> float | None:
    """When the run began, in seconds since the epoch, as far as storage knows."""
    if run.started_at is not None:
        return run.started_at
    if run.result is not None and run.result.started_at:
        return run.result.started_at
    return run.rows[0]["time"] if run.rows else None
