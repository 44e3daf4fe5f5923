"""Content of a real SQLite database after a study has been recorded."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import plotly.graph_objects as go
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ipgl.config import TrackingSettings
from ipgl.core.colours import PALETTE
from ipgl.tracking import Tracker, make_tracker


@pytest.fixture
def tracker(storage: Path, make: SimpleNamespace) -> Tracker:
    tracker = make_tracker(TrackingSettings(), storage, storage / "digits" / "tracking.json")
    tracker.open_study(make.study())
    return tracker


def artifacts(client: MlflowClient, run: Run, folder: str | None = None) -> list[str]:
    return sorted(entry.path for entry in client.list_artifacts(run.info.run_id, folder))


def text_of(client: MlflowClient, run: Run, path: str, tmp_path: Path) -> str:
    return open(client.download_artifacts(run.info.run_id, path, str(tmp_path))).read()


def test_record_before_open_is_a_programming_error(storage: Path, make: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match="open_study must come first"):
        make_tracker(TrackingSettings(), storage, storage / "tracking.json").record(make.run())


def test_study_run(tracker: Tracker, runs: Callable[[], dict[str, Run]], make: SimpleNamespace) -> None:
    run = runs()["digits"]
    assert run.info.status == "RUNNING"
    assert run.info.start_time == 1_700_000_000_000
    assert run.data.params == {"methods.erm": "{}", "methods.ipg": "{}", "training.epochs": "2"}
    expected = {
        "ipgl.study": "digits",
        "ipgl.execution": "e1",
        "ipgl.kind": "study",
        "ipgl.status": "running",
        "ipgl.config_hash": "c0ffee",
        "ipgl.data_fingerprint": "da7a",
        "ipgl.environment.host": "node1",
        "ipgl.environment.torch": "2.15.0",
        "mlflow.source.git.commit": "0123abc",
        "mlflow.runColor": "#000000",
    }
    assert expected.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.note.content"].startswith("Which method ignores colour?")


def test_running_child(
    tracker: Tracker,
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    make: SimpleNamespace,
) -> None:
    tracker.record(make.run(rows=2, started_at=make.started + 5))
    parent, run = runs()["digits"], runs()["ipg seed 1"]
    assert run.info.status == "RUNNING"
    assert run.info.start_time == 1_700_000_005_000
    assert run.data.params == {"strength": "2.5", "model": "mlp"}
    expected = {
        "mlflow.parentRunId": parent.info.run_id,
        "mlflow.runColor": PALETTE[1],  # ipg is the study file's second method
        "ipgl.study": "digits",
        "ipgl.kind": "final",
        "ipgl.label": "ipg",
        "ipgl.method": "ipg",
        "ipgl.trial": "ipg-final-s1",
        "ipgl.number": "4",
        "ipgl.seed": "1",
        "ipgl.status": "running",
    }
    assert expected.items() <= run.data.tags.items()
    assert history(run, "train/loss") == [(10, 1.0), (20, 0.5)]
    assert history(run, "epoch") == [(10, 1.0), (20, 2.0)]
    assert "time" not in run.data.metrics
    assert "step" not in run.data.metrics


def test_completed_child(
    tracker: Tracker,
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    client: MlflowClient,
    make: SimpleNamespace,
    tmp_path: Path,
) -> None:
    (tmp_path / "result.json").write_text("not this one")
    (tmp_path / "model.bin").write_bytes(b"\x00\xff")
    files = [tmp_path / "result.json", tmp_path / "model.bin", tmp_path / "missing.txt"]
    tracker.record(make.run(rows=3, result=make.result(), artifacts=files))
    run = runs()["ipg seed 1"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time == 1_700_000_060_000
    assert run.data.tags["ipgl.status"] == "completed"
    assert run.data.tags["ipgl.environment.device"] == "cpu"
    assert history(run, "shift_accuracy/mixture") == [(0, 0.9), (50, 0.7), (100, 0.5)]
    assert history(run, "test/worst_group") == [(0, 0.5)]
    assert history(run, "area/mixture") == [(0, 0.7)]
    assert len(history(run, "score")) == 3
    assert artifacts(client, run) == ["model.bin", "result.json"]
    assert json.loads(text_of(client, run, "result.json", tmp_path / "got"))["trial"] == "ipg-final-s1"


@pytest.fixture(autouse=True)
def _download_folder(tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()


def test_failed_child(
    tracker: Tracker,
    runs: Callable[[], dict[str, Run]],
    client: MlflowClient,
    make: SimpleNamespace,
    tmp_path: Path,
) -> None:
    tracker.record(make.run(rows=2, result=make.failure()))
    run = runs()["ipg seed 1"]
    assert run.info.status == "FAILED"
    assert run.data.tags["ipgl.status"] == "failed"
    assert run.data.tags["ipgl.failure"] == "NonFiniteError"
    assert run.data.tags["ipgl.reason"] == "NonFiniteError at step 20: the loss is nan"
    assert "the loss is nan" in run.data.tags["mlflow.note.content"]
    assert (
        json.loads(text_of(client, run, "result.json", tmp_path / "got"))["failure"]["traceback"]
        == "Traceback ..."
    )
    assert not [name for name in run.data.metrics if name.startswith(("test/", "shift_accuracy/"))]


def test_stopped_child(tracker: Tracker, runs: Callable[[], dict[str, Run]], make: SimpleNamespace) -> None:
    stopped = make.result(status="stopped", metrics={}, curves={}, phase="search")
    tracker.record(make.run(phase="search", number=7, rows=1, result=stopped))
    run = runs()["ipg trial 007"]
    assert run.info.status == "KILLED"
    assert run.data.tags["ipgl.status"] == "stopped"
    assert run.data.tags["ipgl.kind"] == "search"
    assert run.data.tags["ipgl.reason"] == "stopped early by the scheduler"


def test_values_that_are_not_finite(
    tracker: Tracker,
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    make: SimpleNamespace,
) -> None:
    rows = make.rows(3)
    rows[1]["train/loss"] = math.nan
    rows[2]["train/loss"] = math.inf
    result = make.result(
        metrics={"worst_group": math.nan}, curves={"mixture": make.curve(0.9, math.nan, 0.5)}
    )
    tracker.record(make.run(rows=rows, result=result))
    run = runs()["ipg seed 1"]
    losses = history(run, "train/loss")
    assert losses[0] == (10, 1.0)
    assert [(step, math.isnan(value)) for step, value in losses[1:]] == [(20, True), (30, True)]
    assert math.isnan(run.data.metrics["test/worst_group"])
    assert history(run, "shift_accuracy/mixture") == [(0, 0.9), (100, 0.5)]


def test_many_rows_take_several_calls(
    tracker: Tracker,
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    make: SimpleNamespace,
) -> None:
    tracker.record(make.run(rows=make.rows(700)))  # 3 metrics a row
    assert [step for step, _ in history(runs()["ipg seed 1"], "epoch")] == list(range(10, 7010, 10))


def test_unlisted_methods_get_colours_too(
    tracker: Tracker, runs: Callable[[], dict[str, Run]], make: SimpleNamespace
) -> None:
    for label in ("groupdro", "ipg", "irm", "groupdro"):
        tracker.record(make.run(key=f"{label}-1", label=label))
    colours = {name: run.data.tags["mlflow.runColor"] for name, run in runs().items()}
    assert colours == {
        "digits": "#000000",
        "ipg seed 1": PALETTE[1],
        "groupdro seed 1": PALETTE[2],
        "irm seed 1": PALETTE[3],
    }


def test_closed_study(
    tracker: Tracker,
    runs: Callable[[], dict[str, Run]],
    client: MlflowClient,
    make: SimpleNamespace,
    tmp_path: Path,
) -> None:
    (tmp_path / "study.yaml").write_text("name: digits\n")
    figure = go.Figure(go.Scatter(x=[0, 1], y=[1, 0]))
    tracker.close_study(make.results(), [tmp_path / "study.yaml"], {"robustness": figure})
    run = runs()["digits"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time == 1_700_000_060_000
    assert run.data.tags["ipgl.status"] == "completed"
    assert "**ipg**" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics == pytest.approx(
        {"ipg/worst_group": 0.5, "ipg/worst_group_low": 0.45, "ipg/worst_group_high": 0.55}
    )
    assert artifacts(client, run) == ["figures", "study.yaml", "summary.json"]
    assert artifacts(client, run, "figures") == ["figures/robustness.html"]
    page = text_of(client, run, "figures/robustness.html", tmp_path / "got")
    assert len(page) > 1_000_000, "plotly.js must be inside"
    assert "<script src=" not in page.replace("'", '"')


def test_runs_that_nobody_ends_are_shown_as_abandoned(
    tracker: Tracker, runs: Callable[[], dict[str, Run]], make: SimpleNamespace
) -> None:
    tracker.record(make.run(rows=1))
    tracker.close_study(make.results())
    run = runs()["ipg seed 1"]
    assert (run.info.status, run.data.tags["ipgl.status"]) == ("KILLED", "abandoned")


def test_interrupt_and_resume(
    tracker: Tracker, runs: Callable[[], dict[str, Run]], storage: Path, make: SimpleNamespace
) -> None:
    tracker.record(make.run(rows=1))
    tracker.interrupt()
    states = {name: (run.info.status, run.data.tags["ipgl.status"]) for name, run in runs().items()}
    assert states == {"digits": ("KILLED", "interrupted"), "ipg seed 1": ("KILLED", "interrupted")}

    resumed = make_tracker(TrackingSettings(), storage, storage / "digits" / "tracking.json")
    resumed.open_study(make.study())
    resumed.record(make.run(rows=1))
    states = {name: (run.info.status, run.data.tags["ipgl.status"]) for name, run in runs().items()}
    assert states == {"digits": ("RUNNING", "running"), "ipg seed 1": ("RUNNING", "running")}


def test_parameter_that_changed_keeps_its_first_value(
    tracker: Tracker,
    runs: Callable[[], dict[str, Run]],
    storage: Path,
    make: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracker.record(make.run(parameters={"strength": 1}))
    resumed = make_tracker(TrackingSettings(), storage, storage / "digits" / "tracking.json")
    resumed.open_study(make.study())
    with caplog.at_level(logging.WARNING):
        resumed.record(make.run(parameters={"strength": 2, "added": 3}))
    assert runs()["ipg seed 1"].data.params == {"strength": "1", "added": "3"}
    assert "keeps its first values of strength" in caplog.text


def test_a_hundred_and_one_parameters(
    tracker: Tracker, runs: Callable[[], dict[str, Run]], make: SimpleNamespace
) -> None:
    tracker.record(make.run(parameters={f"p{i}": i for i in range(101)}))
    assert len(runs()["ipg seed 1"].data.params) == 101


def test_experiment(tracker: Tracker, client: MlflowClient, storage: Path) -> None:
    (experiment,) = client.search_experiments(filter_string="name = 'ipgl'")
    assert experiment.artifact_location == str(storage / "mlartifacts" / "ipgl")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_nothing_lands_in_the_working_folder(
    storage: Path, make: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tracker = make_tracker(TrackingSettings(), storage, storage / "digits" / "tracking.json")
    tracker.check()
    tracker.open_study(make.study())
    tracker.record(make.run(result=make.result()))
    tracker.close_study(make.results())
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in storage.iterdir()} <= {"mlflow.db", "mlartifacts", "digits"}
