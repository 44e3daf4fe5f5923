"""Whole studies, run by the command in a process of its own with Ray, storage and MLflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ipgl.evaluation import RunResult
from ipgl.storage.study_dir import StudyFolder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

STUDY = """
name: small
question: Does it run?
dataset: {name: colored_mnist, source: digits, pairs: {train: 100, held_out: 100}}
model: {name: mlp, width: 32}
methods:
  erm: {}
  ipg:
    update: additive
    discrepancy: logit
    strength: {log_uniform: [1, 30]}
    start: [{strength: 10}]
  broken: {method: erm, training: {optimiser: {name: sgd, lr: 1e30}}}
training: {epochs: 6, batch_size: 64, evaluations: 3, checkpoint_seconds: 0}
search: {trials: 4, startup_trials: 2, final_seeds: 2, scheduler: {name: asha, grace_evaluations: 1}}
"""


def ipgl(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ipgl", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def begin(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ipgl", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background job inherits an ignored SIGINT, and Python would then leave it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def results(folder: StudyFolder) -> dict[str, RunResult]:
    return {run.trial: run for trial in folder.trials() if (run := trial.read_result())}


def children(storage: Path, study: str) -> dict[str, list[Run]]:
    """MLflow's runs of a study by trial key."""
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ipgl")
    assert experiment is not None
    found: dict[str, list[Run]] = {}
    for run in client.search_runs([experiment.experiment_id], f"tags.`ipgl.study` = '{study}'"):
        found.setdefault(run.data.tags.get("ipgl.trial", "study"), []).append(run)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    cwd = tmp_path_factory.mktemp("study")
    (cwd / "small.yaml").write_text(STUDY)
    done = ipgl("study", "run", "small.yaml", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd, done.stdout


def test_the_end_shows_the_table_and_the_next_commands(finished: tuple[Path, str]) -> None:
    cwd, output = finished
    assert "erm" in output
    assert "ipg - erm where the attribute agrees 10% of the time:" in output
    assert "ipgl ui" in output
    assert f"open the report: {cwd / 'runs/small/report.html'}" in output
    assert (cwd / "runs/small/report.html").stat().st_size > 1_000_000


def test_every_run_is_on_storage(finished: tuple[Path, str]) -> None:
    runs = results(StudyFolder(finished[0] / "runs/small"))
    phases = sorted((run.label, run.phase) for run in runs.values())
    # erm and broken have no ranges: one search trial each; a label without a winner has no final runs.
    assert phases.count(("erm", "search")) == 1
    assert phases.count(("ipg", "search")) == 4
    assert phases.count(("broken", "search")) == 1
    assert phases.count(("erm", "final")) == phases.count(("ipg", "final")) == 2
    assert phases.count(("broken", "final")) == 0
    assert {run.seed for run in runs.values() if run.phase == "final"} == {1, 2}
    assert {run.seed for run in runs.values() if run.phase == "search"} == {0}


def test_the_known_good_point_is_tried_first(finished: tuple[Path, str]) -> None:
    runs = results(StudyFolder(finished[0] / "runs/small")).values()
    assert 10.0 in [
        run.hyperparameters.get("strength") for run in runs if run.label == "ipg" and run.number <= 3
    ]


def test_a_failed_trial_is_a_recorded_result(finished: tuple[Path, str]) -> None:
    (broken,) = [
        run for run in results(StudyFolder(finished[0] / "runs/small")).values() if run.label == "broken"
    ]
    assert broken.status == "failed"
    assert broken.failure is not None
    assert broken.failure.kind == "NonFiniteError"
    assert broken.failure.step is not None
    assert f"at step {broken.failure.step}" in broken.failure.message


def test_a_study_without_a_tested_run_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    text = STUDY[: STUDY.index("  erm: {}")] + STUDY[STUDY.index("  broken:") :]
    (tmp_path / "small.yaml").write_text(text)
    done = ipgl("study", "run", "small.yaml", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "broken: no search trial completed" in done.stdout
    assert "report.html" in done.stdout
    assert not done.stderr


def test_winners_follow_the_rule_and_nothing_from_the_test_split(finished: tuple[Path, str]) -> None:
    folder = StudyFolder(finished[0] / "runs/small")
    runs = results(folder)
    winners = folder.read_winners() or {}
    assert winners["broken"] is None
    for label in ("erm", "ipg"):
        completed = [
            r for r in runs.values() if (r.label, r.phase, r.status) == (label, "search", "completed")
        ]
        skilled = [r for r in completed if not r.validation["guessing"]] or completed
        found = [(r.validation["kappa"], r.validation["flip_rate"]) for r in skilled]
        best = max(kappa * (1 - flips) ** 2 if kappa > 0 else kappa for kappa, flips in found)
        winner = runs[winners[label] or ""]
        assert winner.score == pytest.approx(best, abs=1e-12)
        assert not set(winner.validation) & {"average", "shifted_accuracy", "area_mixture"}


def test_show_as_json(finished: tuple[Path, str]) -> None:
    shown = ipgl("study", "show", "small", "--format", "json", cwd=finished[0])
    runs = json.loads(shown.stdout)["runs"]
    assert sorted((run["method"], run["seed"]) for run in runs) == [
        ("erm", 1),
        ("erm", 2),
        ("ipg", 1),
        ("ipg", 2),
    ]
    for run in runs:
        assert set(run) == {"method", "seed", "trial", "metrics", "groups", "curves"}
        groups = {(g["label"], g["attribute"]): g["accuracy"] for g in run["groups"]}
        counts = {(g["label"], g["attribute"]): g["count"] for g in run["groups"]}
        total = sum(counts.values())
        (point,) = [p for p in run["curves"]["mixture"] if p["severity"] == 0.9]
        prior = {y: (counts[y, 0] + counts[y, 1]) / total for y in (0, 1)}
        expected = sum(prior[y] * (0.1 * groups[y, y] + 0.9 * groups[y, 1 - y]) for y in (0, 1))
        assert point["agreement"] == 0.1
        assert point["accuracy"] == pytest.approx(expected, abs=1e-9)
        assert point["low"] <= point["accuracy"] <= point["high"]


def test_list_and_show(finished: tuple[Path, str]) -> None:
    assert "finished" in ipgl("study", "list", cwd=finished[0]).stdout
    assert "ipg - erm" in ipgl("study", "show", "small", cwd=finished[0]).stdout


def test_the_name_is_in_use(finished: tuple[Path, str]) -> None:
    again = ipgl("study", "run", "small.yaml", cwd=finished[0])
    assert again.returncode == 2
    assert "a study's name may be used once" in again.stderr
    assert "ipgl study show small" in again.stderr


def test_mlflow_holds_every_run_once(finished: tuple[Path, str]) -> None:
    storage = finished[0] / "runs"
    runs = results(StudyFolder(storage / "small"))
    found = children(storage, "small")
    assert set(found) == {*runs, "study"}
    assert all(len(of_key) == 1 for of_key in found.values())
    (study,) = found["study"]
    fingerprints = {run.data_fingerprint for run in runs.values() if run.status == "completed"}
    assert {study.data.tags["ipgl.data_fingerprint"]} == fingerprints
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    (final,) = [run for key, (run,) in found.items() if key.startswith("ipg-final-s1")]
    curve = client.get_metric_history(final.info.run_id, "shift_accuracy/mixture")
    assert sorted(point.step for point in curve) == list(range(0, 101, 10))
    assert {path.path for path in client.list_artifacts(final.info.run_id)} >= {"result.json", "model.pt"}


def test_resuming_a_finished_study_runs_nothing_again(finished: tuple[Path, str]) -> None:
    folder = StudyFolder(finished[0] / "runs/small")
    before = {trial.path.name: trial.files.result.stat().st_mtime_ns for trial in folder.trials()}
    again = ipgl("study", "resume", "small", cwd=finished[0])
    assert again.returncode == 0, again.stderr
    assert {trial.path.name: trial.files.result.stat().st_mtime_ns for trial in folder.trials()} == before


def test_a_changed_study_file_is_not_resumed(finished: tuple[Path, str], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(finished[0] / "runs/small", tmp_path / "runs/small")
    source = tmp_path / "runs/small/study.yaml"
    source.write_text(source.read_text().replace("epochs: 6", "epochs: 7"))
    refused = ipgl("study", "resume", "small", cwd=tmp_path)
    assert refused.returncode == 2
    assert "the file was changed after the study began" in refused.stderr


def _wait_for(folder: StudyFolder, ended: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(list(folder.path.glob("trials/*/result.json"))) < ended:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the study made no progress"
        time.sleep(0.05)


def test_an_interrupted_and_killed_study_is_resumed_with_nothing_lost_or_twice(tmp_path: Path) -> None:
    # `broken` would fail at once; longer trials leave time to interrupt in their middle.
    study = STUDY.replace("epochs: 6", "epochs: 40").replace("evaluations: 3", "evaluations: 10")
    (tmp_path / "small.yaml").write_text(study)
    folder = StudyFolder(tmp_path / "runs/small")

    first = begin("study", "run", "small.yaml", cwd=tmp_path)
    _wait_for(folder, 1, first)
    first.send_signal(signal.SIGINT)
    output = first.communicate(timeout=120)[0]
    assert first.returncode == 130, output
    assert "go on with: ipgl study resume small" in output
    assert "Traceback" not in output
    after_interrupt = {run.trial: run.finished_at for run in results(folder).values()}

    second = begin("study", "resume", "small", cwd=tmp_path)
    _wait_for(folder, len(after_interrupt) + 2, second)
    os.kill(second.pid, signal.SIGKILL)
    second.communicate(timeout=120)
    after_kill = {run.trial: run.finished_at for run in results(folder).values()}
    assert after_interrupt.items() <= after_kill.items()

    third = ipgl("study", "resume", "small", cwd=tmp_path)
    assert third.returncode == 0, third.stdout + third.stderr
    runs = results(folder)
    assert after_kill.items() <= {run.trial: run.finished_at for run in runs.values()}.items()
    assert sum(run.label == "ipg" and run.phase == "search" for run in runs.values()) == 4
    assert sum(run.phase == "final" for run in runs.values()) == 4

    found = children(tmp_path / "runs", "small")
    assert set(found) == {*runs, "study"}
    assert all(len(of_key) == 1 for of_key in found.values())
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs/mlflow.db'}")
    for key, (run,) in found.items():
        if key != "study" and runs[key].status == "completed":
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "score")]
            assert len(steps) == len(set(steps)), f"{key}: an evaluation was logged twice"


def test_more_workers_than_the_machine_holds_is_an_error_not_a_wait(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(
        STUDY.replace("name: small", "name: wide") + "resources: {workers: 64}\n"
    )
    refused = ipgl("study", "run", "wide.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "one trial needs 64 CPUs (64 workers), but the cluster has" in refused.stderr


@pytest.mark.slow
def test_two_workers_share_a_trial(tmp_path: Path) -> None:
    study = STUDY.replace("name: small", "name: two") + "resources: {workers: 2}\n"
    study = study.replace("trials: 4", "trials: 1").replace("final_seeds: 2", "final_seeds: 1")
    (tmp_path / "two.yaml").write_text(study)
    done = ipgl("study", "run", "two.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = results(StudyFolder(tmp_path / "runs/two"))
    assert {(run.label, run.phase, run.status) for run in runs.values()} == {
        ("erm", "search", "completed"),
        ("ipg", "search", "completed"),
        ("broken", "search", "failed"),
        ("erm", "final", "completed"),
        ("ipg", "final", "completed"),
    }
