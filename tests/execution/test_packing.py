"""Trials that train together: where that pays, and that a study does not show it."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
from faults import assert_logged_once, begin, descendants, ipgl, results, until

from ipgl.config import read_document
from ipgl.evaluation import RunResult
from ipgl.execution.packing import Workload, pack_size, workload
from ipgl.plan.study_plan import StudyPlan, make_plan
from ipgl.storage.study_dir import StudyFolder
from ipgl.trial.datasets import trial_dataset

HEAD = Workload(True, 5e5, False)
SMALL, LARGE, LONE = Workload(True, 1e6, False), Workload(True, 1e9, False), Workload(False, math.inf, False)
STUDY = """
name: small
dataset: {name: colored_mnist, source: digits, pairs: {train: 100, held_out: 100}}
model: {name: mlp, width: WIDTH}
methods:
  erm: {training: {optimiser: {name: sgd, lr: {choice: [0.01, 0.1, 1.0e+30]}}}}
  ipg: {update: additive, discrepancy: logit, strength: {log_uniform: [1, 100]}, augment: {shift_pixels: 1}}
training: {epochs: 6, batch_size: 64, evaluations: 6, checkpoint_seconds: 0, device: cpu, hopeless_after: null}
search: {sampler: random, trials: 4, final_seeds: 2, pack: PACK, scheduler: {name: none}}
resources: {cpus_per_worker: 2}
"""


@pytest.mark.parametrize(
    ("asked", "load", "trials", "slots", "rounds", "size"),
    [
        ("auto", SMALL, 40, 2, False, 8),  # no more than pays
        ("auto", HEAD, 400, 2, False, 64),
        ("auto", HEAD, 40, 2, False, 20),
        ("auto", SMALL, 6, 2, False, 3),  # no more than there are
        ("auto", SMALL, 12, 2, True, 2),  # so that the sampler learns three times
        ("auto", SMALL, 4, 2, True, 1),
        ("auto", LARGE, 40, 2, False, 1),
        ("auto", LONE, 40, 2, False, 1),
        ("auto", Workload(True, 1e9, True), 400, 2, False, 64),
        (5, LARGE, 40, 2, True, 5),
        (50, SMALL, 40, 2, True, 20),
        (5, LONE, 40, 2, True, 1),
        (5, SMALL, 2, 2, True, 1),
        (1, SMALL, 40, 2, False, 1),
        ("auto", Workload(True, 1e9, False, 1.0), 40, 2, False, 2),  # a short phase: processes stay
        ("auto", Workload(True, 1e9, False, 1.0), 12, 2, True, 2),
        ("auto", Workload(True, 1e9, False, 10.0), 40, 2, False, 1),
        ("auto", Workload(True, 3e9, True, 1.0), 40, 2, False, 1),
        ("auto", Workload(True, 5e5, False, 1.0), 400, 2, False, 64),  # linear heads
    ],
)
def test_how_many(asked: str | int, load: Workload, trials: int, slots: int, rounds: bool, size: int) -> None:
    assert pack_size(asked, load, trials, slots, rounds) == size


def plan(tmp_path: Path, pack: object = "auto", width: int | str = 32, **changes: str) -> StudyPlan:
    text = STUDY.replace("PACK", str(pack)).replace("WIDTH", str(width))
    for old, new in changes.items():
        text = text.replace(old, new)
    (tmp_path / "small.yaml").write_text(text)
    return make_plan(read_document(tmp_path / "small.yaml"))


def test_the_work_of_a_step_is_counted(tmp_path: Path) -> None:
    # 128 inputs -> 32 -> 32 -> 2: each weight is multiplied once forward, and twice backward but in the first layer.
    first, rest, pairs = 128 * 32, 32 * 32 + 32 * 2, 64
    found = plan(tmp_path)
    config = found.trial("ipg", {"strength": 1.0}, "search", 0)
    load = workload(config)
    assert load.stackable
    assert not load.gpu
    assert load.flops == 2 * (64 + 2 * pairs) * (2 * first + 3 * rest) / 2
    examples = len(trial_dataset(config).train)
    assert load.seconds == pytest.approx(2 * load.flops * 6 * examples / 64 / 2e10, rel=0.1)
    assert workload(found.trial("erm", {"training.optimiser.lr": 0.1}, "search", 0)).flops == load.flops / 1.5


def test_what_cannot_be_stacked_is_left_alone(tmp_path: Path) -> None:
    found = plan(tmp_path, mlp="cnn", WIDTH="8")
    assert not workload(found.trial("erm", {"training.optimiser.lr": 0.1}, "search", 0)).stackable


def run(cwd: Path, pack: object, **changes: str) -> StudyFolder:
    cwd.mkdir()
    plan(cwd, pack, **changes)
    done = ipgl("study", "run", "small.yaml", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(cwd / "runs/small")


def assert_alike(packed: StudyFolder, alone: StudyFolder) -> dict[str, RunResult]:
    """Every trial as if it had been alone, to rounding."""
    found, expected = results(packed), results(alone)
    assert found.keys() == expected.keys()
    assert packed.read_winners() == alone.read_winners()
    for key, mine in found.items():
        other = expected[key]
        assert (mine.status, mine.steps) == (other.status, other.steps), mine.failure
        if mine.status == "completed":
            assert mine.score == pytest.approx(other.score, abs=0.02)
            assert mine.metrics["shifted_accuracy"] == pytest.approx(
                other.metrics["shifted_accuracy"], abs=0.03
            )
        rows, others = (place.trial(key).read_history() for place in (packed, alone))
        assert [row["step"] for row in rows] == [row["step"] for row in others]
        for row, twin in zip(rows, others, strict=True):
            assert row["train/loss"] == pytest.approx(twin["train/loss"], rel=0.01)
    return found


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_packed_study_is_the_study(tmp_path: Path) -> None:
    """Trials that run away fail alone, in a pack as out of it; searcher, storage and MLflow see single trials."""
    alone, packed = run(tmp_path / "alone", 1), run(tmp_path / "packed", 4)
    found = assert_alike(packed, alone)
    statuses = [run.status for run in found.values() if run.label == "erm" and run.phase == "search"]
    assert {"completed", "failed"} == set(statuses)
    assert all(run.failure.kind == "NonFiniteError" for run in found.values() if run.failure)
    begun = sorted(run.started_at for run in found.values() if (run.label, run.phase) == ("ipg", "search"))
    ended = [run.finished_at for run in found.values() if (run.label, run.phase) == ("ipg", "search")]
    assert begun[-1] < min(ended), "the trials were not at once"
    assert_logged_once(packed)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_scheduler_stops_single_trials_of_a_pack(tmp_path: Path) -> None:
    halving = {
        "{name: none}": "{name: asha, grace_evaluations: 2, reduction_factor: 2}",
        "trials: 4": "trials: 8",
    }
    folder = run(tmp_path / "packed", 4, **halving, **{"epochs: 6": "epochs: 20"})
    search = [run for run in results(folder).values() if run.phase == "search" and run.label == "ipg"]
    stopped, completed = ([r for r in search if r.status == status] for status in ("stopped", "completed"))
    assert len(search) == 8
    assert stopped
    assert completed
    for each in stopped:
        rows = folder.trial(each.trial).read_history()
        assert len(rows) in (
            2,
            4,
        )  # the rungs; nothing was kept of what was trained while the scheduler thought
        assert each.steps == rows[-1]["step"]
        assert not each.metrics
        assert not folder.trial(each.trial).files.checkpoint.exists()
    assert_logged_once(folder)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_pack_s_trials_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    longer = {"epochs: 6": "epochs: 60", "evaluations: 6": "evaluations: 30", "1.0e+30": "0.2"}
    alone = run(tmp_path / "alone", 1, **longer)
    (tmp_path / "packed").mkdir()
    plan(tmp_path / "packed", 4, **longer)
    folder = StudyFolder(tmp_path / "packed/runs/small")
    process = begin("study", "run", "small.yaml", cwd=tmp_path / "packed")

    def in_the_middle() -> bool:
        ended = results(folder)
        rows = [len(t.read_history()) for t in folder.trials() if t.path.name not in ended]
        return sum(5 <= count < 25 for count in rows) == 4

    until(in_the_middle, process)
    (packer,) = [number for number, title in descendants(process).items() if "ray::PackActor" in title]
    os.kill(packer, signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert_alike(folder, alone)
    assert_logged_once(folder)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_packed_and_single_trials_take_turns(tmp_path: Path) -> None:
    """The processes of packs make room for those that Tune starts, and come back after them."""
    methods = "methods:\n  jtt: {}\n"
    folder = run(tmp_path / "mixed", 4, **{"methods:\n": methods, "1.0e+30": "0.2", "epochs: 6": "epochs: 3"})
    found = results(folder).values()
    assert {(run.label, run.status) for run in found} == {
        (label, "completed") for label in ("jtt", "erm", "ipg")
    }
    summary = folder.read_summary()
    assert summary is not None
    assert summary.environment["packing"] == "jtt: one by one; erm: packs of 4; ipg: packs of 4"
