"""Background synchronisation with an MLflow server that is killed and restarted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow_server import Server, free_port

from ipgl.config import Document, Phase, read_document
from ipgl.core.errors import StudyStateError, TrackingError
from ipgl.evaluation import StudyResults
from ipgl.plan.study_plan import StudyPlan, make_plan
from ipgl.storage.study_dir import StudyFolder, StudyState
from ipgl.storage.study_lock import lock_file
from ipgl.study import background_sync as sync_module
from ipgl.study.background_sync import BackgroundSync
from ipgl.study.replay import sync_study
from ipgl.study.results import choose_winners, summarise
from ipgl.study.study_tracker import StudyTracker
from ipgl.tracking import make_tracker
from ipgl.trial.run import run_trial

STUDY = """
name: small
question: Does it survive?
dataset: {name: colored_mnist, source: digits, pairs: {train: 60, held_out: 40}}
model: {name: mlp, width: 16, depth: 1}
methods:
  erm: {}
  ipg: {strength: 2.0}
training: {epochs: 3, batch_size: 100, evaluations: 3, optimiser: {name: adam, lr: 3e-3}, device: cpu}
search: {trials: 1, final_seeds: 2}
evaluation: {curves: [mixture, worst_case_tv], permutations: 100}
"""


@pytest.fixture(autouse=True)
def _swift(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sync_module, "_PERIOD_SECONDS", 0.2)
    monkeypatch.setattr(sync_module, "_LONGEST_PAUSE_SECONDS", 0.5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    yield server
    server.kill()


def begin(storage: Path, uri: str | None) -> tuple[StudyPlan, StudyFolder]:
    """A study's folder as its driver makes it."""
    folder = StudyFolder(storage / "small")
    folder.path.mkdir(parents=True)
    text = f"{STUDY}storage: {json.dumps(str(storage))}\n"
    if uri is not None:
        text += f"tracking: {{uri: {json.dumps(uri)}}}\n"
    folder.files.source.write_text(text)
    plan = make_plan(document(folder))
    state: StudyState = {
        "execution": "small-1",
        "config_hash": plan.hash,
        "created_at": time.time(),
        "seconds": 1.0,
        "phase": "search",
    }
    folder.write_state(state)
    return plan, folder


def document(folder: StudyFolder) -> Document:
    return read_document(folder.files.source)


def syncing(plan: StudyPlan, folder: StudyFolder, **changes: bool) -> BackgroundSync:
    tracker = make_tracker(plan.config.tracking, folder.path.parent, folder.files.tracking)
    state = folder.read_state() or {}
    return BackgroundSync(
        StudyTracker(tracker, plan, folder, state["execution"], state["created_at"]), **changes
    )


def run(
    plan: StudyPlan, folder: StudyFolder, sync: BackgroundSync | None, label: str, phase: Phase, seed: int
) -> str:
    config = plan.trial(label, {}, phase, seed)

    class Reporter:
        def report(self, row: dict[str, float]) -> None:
            if sync:
                sync.reported(config, row["score"])

    if sync:
        sync.began(config)
    result = run_trial(config, folder.trial(config.key), Reporter())
    assert result.status == "completed", result.failure
    if sync:
        sync.ended(result)
    return config.key


def search(plan: StudyPlan, folder: StudyFolder, sync: BackgroundSync | None = None) -> None:
    for label in ("erm", "ipg"):
        run(plan, folder, sync, label, "search", 0)
    folder.write_winners(choose_winners(plan, folder))


def finals(
    plan: StudyPlan, folder: StudyFolder, sync: BackgroundSync | None = None, seeds: Iterable[int] = (1, 2)
) -> None:
    for seed in seeds:
        for label in ("erm", "ipg"):
            run(plan, folder, sync, label, "final", seed)


def finish(plan: StudyPlan, folder: StudyFolder) -> StudyResults:
    results = summarise(plan, folder)
    folder.write_summary(results.summary)
    folder.write_state((folder.read_state() or {}) | {"phase": "finished"})
    return results


def assert_complete(uri: str, folder: StudyFolder) -> None:
    """Every run once, every metric point once, nothing missing."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("ipgl")
    found = client.search_runs([experiment.experiment_id])
    keys = {trial.path.name for trial in folder.trials()}
    assert Counter(r.data.tags.get("ipgl.trial", "study") for r in found) == dict.fromkeys(
        [*keys, "study"], 1
    )
    for recorded in found:
        assert recorded.info.status == "FINISHED", recorded.data.tags
        if "ipgl.trial" not in recorded.data.tags:
            assert "Does it survive?" in recorded.data.tags["mlflow.note.content"]
            continue
        trial = folder.trial(recorded.data.tags["ipgl.trial"])
        rows, result = trial.read_history(), trial.require_result()
        for name in rows[0].keys() - {"step", "time"}:
            points = sorted(client.get_metric_history(recorded.info.run_id, name), key=lambda p: p.step)
            assert [p.step for p in points] == [row["step"] for row in rows], name
            assert [p.value for p in points] == pytest.approx([row[name] for row in rows], nan_ok=True), name
        curve = client.get_metric_history(recorded.info.run_id, "shift_accuracy/mixture")
        assert sorted((p.step, p.value) for p in curve) == [
            (round(100 * p.severity), pytest.approx(p.accuracy)) for p in result.curves["mixture"]
        ]
        assert len(client.get_metric_history(recorded.info.run_id, "test/worst_group")) == 1
        paths = {entry.path for entry in client.list_artifacts(recorded.info.run_id)}
        assert {"result.json", "groups.csv", "predictions.parquet", "model.pt"} <= paths
    versions = client.search_model_versions("name = 'small'")
    assert sorted(version.tags["ipgl.label"] for version in versions) == ["erm", "ipg"]
    firsts = {v.tags["ipgl.trial"] for v in versions}
    assert firsts == {key for key in keys if "final-s1" in key}, "the lowest seed's, not the best one's"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_killed_and_restarted_during_a_study(server: Server, tmp_path: Path) -> None:
    server.start()
    plan, folder = begin(tmp_path / "runs", server.uri)
    with syncing(plan, folder) as sync:
        search(plan, folder, sync)
        wait_until(lambda: len(MlflowClient(server.uri).search_runs(["1"])) == 3)
        server.kill()
        finals(plan, folder, sync, seeds=[1])
        time.sleep(1)  # long enough for the thread to notice
        server.start()
        finals(plan, folder, sync, seeds=[2])
        server.kill()
        results = finish(plan, folder)
        server.start()
        sync.close(results)
    assert sync.warnings == []
    assert_complete(server.uri, folder)


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(100):
        if condition():
            return
        time.sleep(0.2)
    pytest.fail("it never came true")


def test_a_new_study_stops_at_an_address_that_nothing_answers(tmp_path: Path) -> None:
    plan, folder = begin(tmp_path / "runs", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TrackingError, match="cannot use it"), syncing(plan, folder):
        pytest.fail("it began")


def test_a_resumed_study_ends_without_its_server_and_is_replayed_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "_END_WAIT_SECONDS", 0.5)
    plan, folder = begin(tmp_path / "runs", f"http://127.0.0.1:{free_port()}")
    with syncing(plan, folder, must_open=False) as sync:
        search(plan, folder, sync)
        finals(plan, folder, sync)
        sync.close(finish(plan, folder))
    (warning,) = sync.warnings
    assert "cannot use it" in warning
    assert "`ipgl track sync small --storage " in warning

    other = f"sqlite:///{tmp_path / 'other.db'}"
    for _ in range(2):
        synced = sync_study(folder, other)
        assert synced.runs == 6
        assert synced.warnings == []
        assert "Robustness curves" in synced.links
    assert_complete(other, folder)
    with pytest.raises(TrackingError, match="cannot use it"):
        sync_study(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A finished study that no tracker has seen."""
    plan, folder = begin(tmp_path_factory.mktemp("finished") / "runs", None)
    search(plan, folder)
    finals(plan, folder)
    finish(plan, folder)
    return folder


def test_a_damaged_result_is_named_and_everything_else_is_shown(
    finished: StudyFolder, tmp_path: Path
) -> None:
    import shutil

    folder = StudyFolder(Path(shutil.copytree(finished.path, tmp_path / "runs" / "small")))
    damaged = next(trial for trial in folder.trials() if trial.path.name.startswith("erm-final-s2"))
    damaged.files.result.write_text("{")
    synced = sync_study(folder)
    (warning,) = synced.warnings
    assert str(damaged.files.result) in warning
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    found = client.search_runs(["1"])
    shown = {run.data.tags.get("ipgl.trial", "study") for run in found}
    assert shown == {t.path.name for t in folder.trials()} - {damaged.path.name} | {"study"}
    assert {run.info.status for run in found} == {"FINISHED"}


def test_an_unfinished_study_is_shown_as_interrupted(finished: StudyFolder, tmp_path: Path) -> None:
    import shutil

    folder = StudyFolder(Path(shutil.copytree(finished.path, tmp_path / "runs" / "small")))
    folder.write_state((folder.read_state() or {}) | {"phase": "final"})
    sync_study(folder)
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (parent,) = client.search_runs(["1"], "tags.`ipgl.kind` = 'study'")
    assert (parent.info.status, parent.data.tags["ipgl.status"]) == ("KILLED", "interrupted")


def test_a_running_study_is_left_to_its_driver(finished: StudyFolder) -> None:
    import fcntl

    with open(lock_file(finished), "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StudyStateError, match="the study is running now"):
            sync_study(finished)


def test_a_study_without_tracker_needs_an_address(finished: StudyFolder, tmp_path: Path) -> None:
    import shutil

    folder = StudyFolder(Path(shutil.copytree(finished.path, tmp_path / "runs" / "small")))
    folder.files.source.write_text(folder.files.source.read_text() + "tracking: {name: none}\n")
    with pytest.raises(TrackingError, match="name a server or database with --uri"):
        sync_study(folder)
    assert sync_study(folder, f"sqlite:///{tmp_path / 'other.db'}").runs == 6


def test_trouble_of_any_kind_never_reaches_the_study(
    finished: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(sync_module, "_END_WAIT_SECONDS", 0.3)
    folder = StudyFolder(Path(shutil.copytree(finished.path, tmp_path / "runs" / "small")))
    plan = make_plan(document(folder))
    plan = StudyPlan(
        plan.document,
        plan.config.model_copy(update={"storage": str(folder.path.parent)}),
        plan.methods,
    )
    sync = syncing(plan, folder)

    def stumble(*_: object) -> None:
        raise ZeroDivisionError("a fault of the tracker's own")

    monkeypatch.setattr("ipgl.tracking.mlflow_tracker.MlflowTracker.record", stumble)
    with sync:
        sync.close(summarise(plan, folder))
    (warning,) = sync.warnings
    assert "unexpectedly (ZeroDivisionError: a fault of the tracker's own)" in warning
    assert "ipgl track sync" in warning


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_the_command_survives_a_server_that_is_killed_and_restarted(server: Server, tmp_path: Path) -> None:
    server.start()
    text = STUDY.replace("epochs: 3", "epochs: 60") + f"tracking: {{uri: '{server.uri}'}}\n"
    (tmp_path / "small.yaml").write_text(text)
    folder = StudyFolder(tmp_path / "runs/small")
    process = subprocess.Popen(
        [sys.executable, "-m", "ipgl", "study", "run", "small.yaml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(folder.path.glob("trials/*/history.json")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "no trial began"
            time.sleep(0.1)
        server.kill()
        time.sleep(5)
        server.start()
        output = process.communicate(timeout=200)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, output
    assert "tracking:" not in output
    assert_complete(server.uri, folder)
