"""Failed runs, grouped by their cause."""

from __future__ import annotations

from dataclasses import dataclass

from ipgl.core.redaction import redacted
from ipgl.evaluation.run_result import Failure, RunResult
from ipgl.evaluation.study_summary import StudyResults
from ipgl.report.formatting import shortened

MAX_FAILURES = 100
MAX_MESSAGE = 600
MAX_TRACEBACK = 2500
NO_CAUSE = Failure(kind="Unknown", message="no cause was recorded")


@dataclass(frozen=True)
class FailureRow:
    """Failed runs of one method and phase with the same cause.

    Attributes:
        runs: Each run's key and, where known, the step at which it failed.
        traceback: Of the first of them.
    """

    label: str
    phase: str
    kind: str
    message: str
    runs: tuple[str, ...]
    traceback: str


def failure_rows(results: StudyResults) -> list[FailureRow]:
    """Failed runs by method, phase and cause, in the order in which each first occurred; long texts are cut."""
    alike: dict[tuple[str, str, str, str], list[RunResult]] = {}
    for run in sorted(results.runs, key=lambda run: run.number):
        if run.status == "failed":
            failure = run.failure or NO_CAUSE
            alike.setdefault((run.label, run.phase, failure.kind, failure.message), []).append(run)
    return [
        FailureRow(
            label=label,
            phase=phase,
            kind=kind,
            message=shortened(redacted(message), MAX_MESSAGE),
            runs=tuple(_failed_at(run) for run in runs),
            # The end of a traceback names the place; its start is the machinery around it.
            traceback=redacted((runs[0].failure or NO_CAUSE).traceback)[-MAX_TRACEBACK:],
        )
        for (label, phase, kind, message), runs in alike.items()
    ]


def _failed_at(run: RunResult) -> str:
    step = run.failure.step if run.failure else None
    return run.trial if step is None else f"{run.trial} at step {step}"
