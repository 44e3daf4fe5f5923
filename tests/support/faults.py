"""A small study that is disturbed, and what must hold of it afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mlflow import MlflowClient

from ipgl.evaluation import RunResult
from ipgl.storage.study_dir import StudyFolder

STUDY = """
name: small
dataset: {name: colored_mnist, source: digits, pairs: {train: 100, held_out: 100}}
model: {name: mlp, width: 32}
methods:
  erm: {}
  ipg: {update: sequential, strength: {log_uniform: [1, 30]}, start: [{strength: 10}]}
training: {epochs: 40, batch_size: 64, evaluations: 20, checkpoint_seconds: 0, device: cpu, hopeless_after: null}
search: {trials: 2, startup_trials: 2, final_seeds: 1, concurrency: 1, scheduler: {name: none}}
"""

SHARED = """
name: small
dataset: {name: colored_mnist, source: digits, pairs: {train: 100, held_out: 100}}
model: {name: mlp, width: 32}
methods: {ipg: {strength: 10}}
training: {epochs: 40, batch_size: 64, evaluations: 20, checkpoint_seconds: 0, device: cpu, hopeless_after: null}
search: {final_seeds: 1, scheduler: {name: none}}
resources: {workers: 2}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ipgl", *arguments]


def ipgl(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=350)


def begin(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def results(folder: StudyFolder) -> dict[str, RunResult]:
    return {run.trial: run for trial in folder.trials() if (run := trial.read_result())}


def histories(folder: StudyFolder) -> dict[str, list[dict[str, float]]]:
    return {trial.path.name: trial.read_history() for trial in folder.trials()}


def until(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the study made no progress"
        time.sleep(0.01)


def under_way(folder: StudyFolder, ended: int, rows: int) -> bool:
    """Whether so many runs have ended, and another one has so many evaluations and is in the middle of training."""
    runs = results(folder)
    current = [len(found) for key, found in histories(folder).items() if key not in runs]
    return len(runs) >= ended and any(rows <= count < 20 for count in current)


def descendants(process: subprocess.Popen[str]) -> dict[int, str]:
    """Title of each process that belongs to the study's, by its id; Ray writes into it what a worker runs."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended meanwhile
            continue

    def belongs(number: int) -> bool:
        while number > 1:
            if number == process.pid:
                return True
            number = parents.get(number, 0)
        return False

    return {number: title for number, title in titles.items() if belongs(number)}


def assert_as_undisturbed(folder: StudyFolder, undisturbed: StudyFolder) -> None:
    """Every result, every row and every weight is bit for bit that of a study that nothing happened to."""
    found, expected = results(folder), results(undisturbed)
    assert found.keys() == expected.keys(), [(run.label, run.phase, run.failure) for run in found.values()]
    assert folder.read_winners() == undisturbed.read_winners()
    for key, run in found.items():
        other = expected[key]
        assert run.status == other.status == "completed", run.failure
        assert run.metrics == other.metrics
        assert (run.score, run.groups, run.curves) == (other.score, other.groups, other.curves)
        rows, others = (place.trial(key).read_history() for place in (folder, undisturbed))
        assert [row["evaluation"] for row in rows] == list(range(1, 21))
        for mine, theirs in zip(rows, others, strict=True):
            for name in mine.keys() - {"time"}:
                if not name.startswith("system/"):
                    assert mine[name] == theirs[name], (key, name)
        mine, theirs = (
            torch.load(place.trial(key).files.model, weights_only=True) for place in (folder, undisturbed)
        )
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        assert not folder.trial(key).files.checkpoint.exists()


def assert_logged_once(folder: StudyFolder) -> None:
    client = MlflowClient(f"sqlite:///{folder.path.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ipgl")
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id], f"tags.`ipgl.study` = '{folder.name}'")
    keys = [run.data.tags.get("ipgl.trial", "study") for run in logged]
    assert sorted(keys) == sorted([*results(folder), "study"])
    for run in logged:
        if "ipgl.trial" in run.data.tags:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "score")]
            rows = folder.trial(run.data.tags["ipgl.trial"]).read_history()
            # None twice, none left out; a run without rows has one point that says so.
            assert sorted(steps) == ([row["step"] for row in rows] or [0])
