"""Nothing is recorded twice, wherever the driver is killed, with and without its state file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from ipgl.config import TrackingSettings
from ipgl.tracking import Tracker, make_tracker, opened_study
from ipgl.tracking.recorded_state import save_recorded


@pytest.fixture
def recorded(storage: Path) -> Path:
    return storage / "digits" / "tracking.json"


@pytest.fixture
def start(storage: Path, recorded: Path, make: SimpleNamespace) -> Callable[..., Tracker]:
    """Function that plays a driver which starts, or starts again: a new tracker on the same storage."""

    def begin(**changes: object) -> Tracker:
        tracker = make_tracker(TrackingSettings(), storage, recorded)
        tracker.open_study(make.study(**changes))
        return tracker

    return begin


def test_the_same_view_twice(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    make: SimpleNamespace,
) -> None:
    tracker = start()
    for _ in range(2):
        tracker.record(make.run(rows=3))
    for _ in range(2):
        tracker.record(make.run(rows=3, result=make.result()))
    run = runs()["ipg seed 1"]
    assert set(runs()) == {"digits", "ipg seed 1"}
    assert [step for step, _ in history(run, "train/loss")] == [10, 20, 30]
    assert [step for step, _ in history(run, "shift_accuracy/mixture")] == [0, 50, 100]
    assert len(history(run, "test/worst_group")) == 1


def test_recorded_file_deleted(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    recorded: Path,
    make: SimpleNamespace,
) -> None:
    start().record(make.run(rows=2))
    recorded.unlink()
    start().record(make.run(rows=3, result=make.result()))
    recorded.unlink()
    start().record(make.run(rows=3, result=make.result()))
    assert set(runs()) == {"digits", "ipg seed 1"}
    assert [step for step, _ in history(runs()["ipg seed 1"], "train/loss")] == [10, 20, 30]
    assert json.loads(recorded.read_text())["runs"]["ipg-final-s1"]["closed"] is True


def test_recorded_file_lags_behind_the_server(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    recorded: Path,
    make: SimpleNamespace,
    tmp_path: Path,
) -> None:
    """As after a kill between logging rows and writing the file."""
    tracker = start()
    tracker.record(make.run(rows=1))
    shutil.copy(recorded, tmp_path / "old.json")
    tracker.record(make.run(rows=3))
    shutil.copy(tmp_path / "old.json", recorded)
    start().record(make.run(rows=3, result=make.result()))
    assert [step for step, _ in history(runs()["ipg seed 1"], "train/loss")] == [10, 20, 30]


def test_an_evaluation_repeated_from_a_checkpoint(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    recorded: Path,
    make: SimpleNamespace,
) -> None:
    """Same steps, later times: MLflow alone would keep both, since their times differ."""
    start().record(make.run(rows=3))
    again = [row | {"time": row["time"] + 500} for row in make.rows(4)]
    for lose_file in (False, True):
        if lose_file:
            recorded.unlink()
        start().record(make.run(rows=again))
    assert [step for step, _ in history(runs()["ipg seed 1"], "train/loss")] == [10, 20, 30, 40]


def test_mlflow_drops_a_point_that_it_has(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    client: MlflowClient,
    make: SimpleNamespace,
) -> None:
    """The tracker leans on this for whatever it logs again."""
    from mlflow.entities import Metric

    start().record(make.run(rows=0))
    run_id = runs()["ipg seed 1"].info.run_id
    points = [Metric("m", 0.5, 1000, 1), Metric("m", float("nan"), 2000, 2)]
    client.log_batch(run_id, metrics=points)
    client.log_batch(run_id, metrics=[*points, Metric("m", 0.25, 3000, 3)])
    assert [metric.step for metric in client.get_metric_history(run_id, "m")] == [1, 2, 3]


def test_a_closed_run_costs_nothing_more(
    start: Callable[..., Tracker], make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    start().record(make.run(result=make.result()))
    tracker = start()
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *a, **k: pytest.fail("asked the server"))
    tracker.record(make.run(result=make.result()))


def test_another_execution_is_another_study(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    client: MlflowClient,
    make: SimpleNamespace,
) -> None:
    start(started_at=1.0).record(make.run())
    start(execution="e2", started_at=2.0).record(make.run())
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert sorted(run.data.tags["ipgl.execution"] for run in found) == ["e1", "e1", "e2", "e2"]


def test_a_new_database_is_filled_again(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    storage: Path,
    database_template: Path,
    recorded: Path,
    make: SimpleNamespace,
    tmp_path: Path,
) -> None:
    """The file names runs that the database lacks, since the database was replaced."""
    start().record(make.run(rows=2))
    known = json.loads(recorded.read_text())
    other = storage.parent / "other"
    shutil.copytree(storage, other)
    shutil.copy(database_template, other / "mlflow.db")
    text = recorded.read_text().replace(str(storage), str(other))
    (other / "digits" / "tracking.json").write_text(text)
    tracker = make_tracker(TrackingSettings(), other, other / "digits" / "tracking.json")
    tracker.open_study(make.study())
    tracker.record(make.run(rows=2))
    filled = json.loads((other / "digits" / "tracking.json").read_text())
    assert filled["parent"] != known["parent"]
    assert filled["runs"]["ipg-final-s1"]["last_step"] == 20


def test_a_lost_answer_to_create_run(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    make: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server made the run, but the driver saw an error: the next call must find it."""
    tracker = start()
    create = MlflowClient.create_run

    def lose_the_answer(*arguments: object, **keywords: object) -> None:
        create(*arguments, **keywords)
        raise MlflowException("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lose_the_answer)
        with pytest.raises(Exception, match="connection reset"):
            tracker.record(make.run())
    tracker.record(make.run())
    assert set(runs()) == {"digits", "ipg seed 1"}
    assert runs()["ipg seed 1"].data.params == {"strength": "2.5", "model": "mlp"}


def test_a_kill_between_the_last_tags_and_the_end(
    start: Callable[..., Tracker],
    runs: Callable[[], dict[str, Run]],
    recorded: Path,
    make: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = start()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            tracker.record(make.run(result=make.result()))
    recorded.unlink()
    start().record(make.run(result=make.result()))
    assert runs()["ipg seed 1"].info.status == "FINISHED"


CALLS = (
    "create_experiment",
    "create_run",
    "get_metric_history",
    "get_run",
    "log_batch",
    "log_text",
    "search_runs",
    "set_experiment_tag",
    "set_terminated",
    "update_run",
)


class Killed(BaseException):
    """The driver's end; nothing in the tracker may catch it."""


def play(tracker: Tracker, make: SimpleNamespace) -> None:
    tracker.open_study(make.study())
    tracker.record(make.run(rows=1))
    tracker.record(make.run(rows=2, result=make.result()))
    tracker.close_study(make.results())


def snapshot(
    client: MlflowClient, experiment: str
) -> list[
    tuple[
        tuple[str, str, int, int],
        list[tuple[str, str]],
        list[tuple[str, str]],
        list[tuple[str, int, int, float]],
        list[str],
    ]
]:
    """Everything that a reader sees, without ids."""
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    ids = {run.info.run_id: run.info.run_name for run in found}
    shown = []
    for run in found:
        tags = {name: ids.get(text, text) for name, text in run.data.tags.items()}
        points = [
            (name, metric.step, metric.timestamp, metric.value)
            for name in sorted(run.data.metrics)
            for metric in client.get_metric_history(run.info.run_id, name)
        ]
        files = [entry.path for entry in client.list_artifacts(run.info.run_id)]
        info = (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time)
        shown.append((info, sorted(tags.items()), sorted(run.data.params.items()), sorted(points), files))
    return sorted(shown)


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_every_call(
    every: int, storage: Path, client: MlflowClient, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die after the first, second, ... call to MLflow or write of the file; resume; compare with no death."""
    made = 0
    deadline = 0

    def counting(function: Callable[..., object]) -> Callable[..., str | PagedList | Run | None]:
        def call(*arguments: object, **keywords: object) -> str | PagedList | Run | None:
            nonlocal made
            result = function(*arguments, **keywords)
            made += 1
            if made == deadline:
                raise Killed
            return result

        return call

    for name in CALLS:
        monkeypatch.setattr(MlflowClient, name, counting(getattr(MlflowClient, name)))
    monkeypatch.setattr(opened_study, "save_recorded", counting(save_recorded))

    def tracker(experiment: str) -> Tracker:
        settings = TrackingSettings(experiment=experiment)
        return make_tracker(settings, storage, storage / experiment / "tracking.json")

    play(tracker("whole"), make)
    calls = made
    whole = snapshot(client, "whole")
    assert len(whole) == 2
    assert calls > 20
    for deadline in range(1, calls + 1, every):
        made = 0
        with pytest.raises(Killed):
            play(tracker(f"killed-{deadline}"), make)
        made = -10_000
        play(tracker(f"killed-{deadline}"), make)
        assert snapshot(client, f"killed-{deadline}") == whole, f"differs after a kill at call {deadline}"
