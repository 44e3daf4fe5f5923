"""Views, results and databases for the tracker's tests. MLflow's migration takes seconds: one database is copied."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ipgl.evaluation.run_result import CurvePoint, Failure, RunResult
from ipgl.evaluation.study_summary import Estimate, MethodSummary, StudyResults, StudySummary
from ipgl.tracking import RunView, StudyView, locate
from ipgl.tracking.client import connect, set_environment

STARTED = 1_700_000_000.0


def make_study(**changes: object) -> StudyView:
    fields: dict[str, Any] = {
        "study": "digits",
        "execution": "e1",
        "question": "Which method ignores colour?",
        "config": {"name": "digits", "methods": {"erm": {}, "ipg": {}}, "training": {"epochs": 2}},
        "config_hash": "c0ffee",
        "data_fingerprint": "da7a",
        "environment": {"git_revision": "0123abc", "host": "node1", "torch": "2.15.0"},
        "started_at": STARTED,
    }
    return StudyView(**(fields | changes))


def make_rows(count: int) -> list[dict[str, float]]:
    return [
        {"step": 10 * i, "epoch": i, "time": STARTED + i, "train/loss": 1 / i, "score": 0.1 * i}
        for i in range(1, count + 1)
    ]


def make_curve(*accuracies: float) -> tuple[CurvePoint, ...]:
    """Points at severities 0, 0.5, 1 (as many as accuracies)."""
    return tuple(
        CurvePoint(severity=0.5 * i, agreement=1 - 0.5 * i, accuracy=value, low=value, high=value)
        for i, value in enumerate(accuracies)
    )


def make_result(**changes: object) -> RunResult:
    fields: dict[str, object] = {
        "study": "digits",
        "label": "ipg",
        "method": "ipg",
        "phase": "final",
        "trial": "ipg-final-s1",
        "seed": 1,
        "status": "completed",
        "score": 0.3,
        "metrics": {"worst_group": 0.5, "area_mixture": 0.7},
        "curves": {"mixture": make_curve(0.9, 0.7, 0.5)},
        "steps": 30,
        "started_at": STARTED,
        "finished_at": STARTED + 60,
        "environment": {"device": "cpu"},
    }
    return RunResult(**(fields | changes))


def make_failure(**changes: object) -> RunResult:
    failure = Failure(kind="NonFiniteError", message="the loss is nan", step=20, traceback="Traceback ...")
    return make_result(status="failed", failure=failure, metrics={}, curves={}, **changes)


def make_run(
    rows: int | list[dict[str, float]] = 3, result: RunResult | None = None, **changes: object
) -> RunView:
    fields: dict[str, Any] = {
        "key": "ipg-final-s1",
        "label": "ipg",
        "method": "ipg",
        "phase": "final",
        "number": 4,
        "seed": 1,
        "parameters": {"strength": 2.5, "model": "mlp"},
        "rows": make_rows(rows) if isinstance(rows, int) else rows,
        "result": result,
    }
    return RunView(**(fields | changes))


def make_method(label: str, mean: float = 0.5, **changes: object) -> MethodSummary:
    fields: dict[str, object] = {
        "label": label,
        "method": label,
        "winner": f"{label}-search-s0",
        "hyperparameters": {"strength": 2.5},
        "score": 0.3,
        "estimates": {"worst_group": Estimate(mean=mean, low=mean - 0.05, high=mean + 0.05)},
        "curves": {"mixture": make_curve(0.9, 0.7, 0.5)},
        "final_runs": (f"{label}-final-s1",),
        "counts": {"completed": 3, "stopped": 1, "failed": 0},
    }
    return MethodSummary(**(fields | changes))


def make_results(*methods: MethodSummary, **changes: object) -> StudyResults:
    fields: dict[str, object] = {
        "study": "digits",
        "question": "Which method ignores colour?",
        "selection": "pair_robust",
        "confidence": 0.95,
        "config": {},
        "config_hash": "c0ffee",
        "data_fingerprint": "da7a",
        "environment": {},
        "methods": methods or (make_method("ipg"),),
        "differences": {},
        "chance": math.nan,
        "seconds": 60.0,
    }
    return StudyResults(summary=StudySummary(**(fields | changes)), runs=(make_result(),), histories={})


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Builders, because test modules cannot import one another."""
    return SimpleNamespace(
        study=make_study,
        rows=make_rows,
        curve=make_curve,
        result=make_result,
        failure=make_failure,
        run=make_run,
        method=make_method,
        results=make_results,
        started=STARTED,
    )


@pytest.fixture(scope="session")
def database_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = locate(tmp_path_factory.mktemp("template"), None)
    set_environment()
    connect(store)
    assert store.database is not None
    return store.database


@pytest.fixture
def storage(tmp_path: Path, database_template: Path) -> Path:
    """A storage folder whose MLflow database is empty but migrated."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(database_template, folder / "mlflow.db")
    return folder


@pytest.fixture
def client(storage: Path) -> MlflowClient:
    """MLflow's own client of the storage folder's database, to see what was recorded."""
    return connect(locate(storage, None))


@pytest.fixture
def runs(client: MlflowClient) -> Callable[[], dict[str, Run]]:
    """Function that gives all recorded runs by name."""

    def by_name() -> dict[str, Run]:
        found = client.search_runs([e.experiment_id for e in client.search_experiments()])
        names = [run.info.run_name for run in found]
        assert len(set(names)) == len(names), f"recorded twice: {sorted(names)}"
        return dict(zip(names, found, strict=True))

    return by_name


@pytest.fixture
def history(client: MlflowClient) -> Callable[[Run, str], list[tuple[int, float]]]:
    """Function that gives a run's points of one metric as (step, value), in the order of steps."""

    def points(run: Run, name: str) -> list[tuple[int, float]]:
        found = client.get_metric_history(run.info.run_id, name)
        return sorted((metric.step, metric.value) for metric in found)

    return points
