"""Processes that are lost: who is charged, and that a study goes on whatever takes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from faults import begin, ipgl, results

from ipgl.config import TrialConfig
from ipgl.evaluation import RunResult
from ipgl.execution.recorder import TrialRecorder, is_node_loss
from ipgl.methods import METHODS
from ipgl.plan.study_plan import load_plan
from ipgl.storage.study_dir import StudyFolder

# `exits` takes its process away without a word after some steps, if its strength is odd.
OWN = """
import os
from ipgl.config import Settings, Int
from ipgl.methods import METHODS, method_entry
from ipgl.methods.erm import Erm

class ExitsSettings(Settings):
    strength: int = 0

class Exits(Erm):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self._exits, self._steps = settings.strength % 2, 0

    def objectives(self, model, batch, *rest):
        return super().objectives(model, batch, *rest)

    def advance(self, steps, moving):
        if self._exits:
            os._exit(7)
        super().advance(steps, moving)

    def step(self, model, batch, pairs):
        self._steps += 1
        if self._exits and self._steps > 3:
            os._exit(7)
        return super().step(model, batch, pairs)

METHODS["exits"] = method_entry(Exits, ExitsSettings, "a test")
"""
STUDY = """
name: small
imports: [own.py]
dataset: {name: colored_mnist, source: digits, pairs: {train: 100, held_out: 100}}
model: {name: mlp, width: 16}
methods: {exits: {strength: {choice: [0, 1, 2, 4]}}}
training: {epochs: 2, batch_size: 64, evaluations: 2, device: cpu, hopeless_after: null}
search: {sampler: random, trials: 8, final_seeds: 1, pack: PACK, concurrency: 4, scheduler: {name: none}}
resources: {cpus_per_worker: 2, max_failures: 1}
tracking: {name: none}
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("pack", [4, 1])
def test_a_trial_that_ends_its_process_fails_alone(tmp_path: Path, pack: int) -> None:
    """Its neighbours in a pack are tried again alone and complete; what it does to itself is its own failure."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "small.yaml").write_text(STUDY.replace("PACK", str(pack)))
    done = ipgl("study", "run", "small.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[int, RunResult] = {
        run.hyperparameters["strength"]: run
        for run in results(StudyFolder(tmp_path / "runs/small")).values()
        if run.phase == "search"
    }
    assert 1 in found
    assert len(found) >= 3
    assert {strength for strength, run in found.items() if run.status == "failed"} == {1}
    assert found[1].failure is not None
    assert "Actor" in found[1].failure.kind


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[tuple[TrialRecorder, TrialConfig, list[RunResult]]]:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "small.yaml").write_text(STUDY.replace("PACK", "1"))
    folder = StudyFolder(tmp_path / "runs/small")
    folder.path.mkdir(parents=True)
    ended: list[RunResult] = []

    class Watcher:
        def began(self, config: TrialConfig) -> None: ...

        def reported(self, config: TrialConfig, score: float) -> None: ...

        def ended(self, result: RunResult) -> None:
            ended.append(result)

    modules = set(sys.modules)
    with mock.patch.dict(METHODS):  # the study's file registers a method
        config = load_plan(tmp_path / "small.yaml").trial("exits", {"strength": 1}, "search", 0)
        yield TrialRecorder(folder, Watcher()), config, ended
    for name in {name for name in set(sys.modules) - modules if name.startswith("_ipgl_own_")}:
        del sys.modules[name]


def test_only_a_trial_s_own_fault_is_charged(
    recorder: tuple[TrialRecorder, TrialConfig, list[RunResult]],
) -> None:
    record, config, ended = recorder
    for _ in range(10):
        assert record.may_try_again(config, RuntimeError("its node has died"), charged=False)
    assert record.lost == {config.key: config}
    assert record.may_try_again(config, RuntimeError("out of memory"), charged=True)  # max_failures: 1
    assert not ended
    assert not record.may_try_again(config, RuntimeError("out of memory"), charged=True)
    assert [(run.status, run.failure.message) for run in ended if run.failure] == [
        ("failed", "out of memory")
    ]
    assert not record.lost
    # The next start of the trial only reads its result; nobody hears of its end twice.
    record.completed(config)
    assert len(ended) == 1


def test_a_lost_node_is_told_from_a_lost_process() -> None:
    assert is_node_loss(RuntimeError("The actor died because its node has died. Node Id: 0a1b"))
    assert not is_node_loss(RuntimeError("The actor is dead because its worker process has died."))
    assert not is_node_loss(None)


MEMORY = """
name: small
imports: [own.py]
dataset: {name: colored_mnist, source: digits}
model: {name: mlp, width: 16}
methods: {erm: {}, hungry: {}}
training: {epochs: 2, batch_size: 64, evaluations: 2, device: cpu, hopeless_after: null}
search: {final_seeds: 2, pack: PACK, scheduler: {name: none}}
resources: {cpus_per_worker: 1, max_failures: 0}
tracking: {name: none}
"""
HUNGRY = """
import time
from ipgl.methods import METHODS, method_entry
from ipgl.methods.erm import Erm, ErmSettings

class Hungry(Erm):
    def step(self, model, batch, pairs):
        self._eaten = bytearray(4 * 2**30)
        self._eaten[::4096] = b"x" * len(self._eaten[::4096])
        time.sleep(60)
        return super().step(model, batch, pairs)

METHODS["hungry"] = method_entry(Hungry, ErmSettings, "a test")
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_process_killed_for_memory_costs_its_trial_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    memory = psutil.virtual_memory()
    threshold = (memory.used + 2.5 * 2**30) / memory.total
    if threshold > 0.9:
        pytest.skip("needs 4 GiB of free memory")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{threshold:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    (tmp_path / "own.py").write_text(HUNGRY)
    (tmp_path / "small.yaml").write_text(MEMORY.replace("PACK", "1"))
    process = begin("study", "run", "small.yaml", cwd=tmp_path)
    output = process.communicate(timeout=350)[0]
    assert process.returncode == 0, output
    runs = results(StudyFolder(tmp_path / "runs/small")).values()
    statuses = {(run.label, run.phase): run.status for run in runs}
    assert statuses[("erm", "final")] == "completed", output
    assert statuses[("hungry", "search")] == "failed"
