"""Runs that will not recover: the verdict, the patience, and what becomes of the trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ipgl.config import (
    Component,
    EvaluationSettings,
    OptimiserSettings,
    ResourceSettings,
    TrainingSettings,
    TrialConfig,
)
from ipgl.evaluation import RunResult
from ipgl.storage.trial_dir import TrialFolder
from ipgl.training import SilentReporter
from ipgl.training.early_stopping import failure_mode, stop_reason
from ipgl.trial import run as trial_module
from ipgl.trial.datasets import build_dataset
from ipgl.trial.run import run_trial


def validation(accuracy: float, collapsed: float = 0.0, **others: float) -> dict[str, float]:
    return {"accuracy": accuracy, "collapsed": collapsed, **others}


@pytest.mark.parametrize(
    ("accuracy", "examples", "classes", "bad"),
    [
        # Two classes, 100 examples: a standard error is 1/2 / 10, and 1/2 less three of them 0.35.
        (0.34, 100, 2, True),
        (0.36, 100, 2, False),
        (0.36, 10_000, 2, True),  # 0.485
        (0.0, 4, 2, False),  # 1/2 - 3/4: so few examples show nothing
        # Ten classes, 900 examples: 0.3 / 30, and 0.1 less three of them 0.07.
        (0.069, 900, 10, True),
        (0.071, 900, 10, False),
        # Four classes, 300 examples: 0.25 - 3 * sqrt(0.1875 / 300) = 0.175.
        (0.176, 300, 4, False),
        (0.174, 300, 4, True),
        (0.5, 100, 2, False),
        (1.0, 100, 2, False),
    ],
)
def test_overshot(accuracy: float, examples: int, classes: int, bad: bool) -> None:
    found = failure_mode(validation(accuracy), examples, classes)
    if bad:
        assert found == (
            f"overshot: validation accuracy {accuracy:.3f} is below guessing ({1 / classes:.3f})"
        )
    else:
        assert found is None


@pytest.mark.parametrize(("kappa", "bad"), [(-0.01, True), (0.0, False), (0.05, False)])
def test_a_detector_of_a_rare_class_is_not_overshot(kappa: float, bad: bool) -> None:
    # 1,000 examples, 50 positive: 49 found at 640 false alarms is an accuracy of 0.359, far below 1/2, but more than
    # positive answers as many would agree by chance.
    assert (failure_mode(validation(0.359, kappa=kappa), 1000, 2) is not None) == bad


@pytest.mark.parametrize("accuracy", [0.1, 0.5, 0.9])
def test_collapsed_is_named_whatever_the_accuracy(accuracy: float) -> None:
    found = failure_mode(validation(accuracy, 1.0), 100, 2)
    assert found == "collapsed: one class is predicted for every validation example"


@pytest.mark.parametrize(
    ("failure_modes", "patience", "stops"),
    [
        ([], 1, False),
        (["x"], 1, True),
        ([None, "x"], 1, True),
        (["x", None], 1, False),
        (["x", "x"], 3, False),
        (["x", "y", "z"], 3, True),
        ([None, "x", "y", "z"], 3, True),
        (["x", "x", None, "x", "x"], 3, False),  # in a row
        (["x"] * 9, None, False),
    ],
)
def test_patience(failure_modes: Sequence[str | None], patience: int | None, stops: bool) -> None:
    found = stop_reason(failure_modes, patience)
    if stops:
        assert found == f"{failure_modes[-1]}, after {patience} evaluations in a row"
    else:
        assert found is None


# --- in a trial ---


def config(
    phase: str = "search", patience: int | None = 2, evaluations: int = 6, weight_decay: float = 0.0
) -> TrialConfig:
    return TrialConfig(
        study="hopeless",
        label="erm",
        phase=phase,
        seed=0,
        hyperparameters={},
        dataset=Component(
            name="colored_mnist", source="digits", pairs={"train": 20, "held_out": 20}, test_agreement=0.4
        ),
        model=Component(name="mlp", width=8, depth=1),
        method=Component(name="erm"),
        training=TrainingSettings(
            epochs=6,
            batch_size=100,
            optimiser=OptimiserSettings(name="sgd", lr=0.1, momentum=0.0, weight_decay=weight_decay),
            evaluations=evaluations,
            hopeless_after=patience,
            device="cpu",
        ),
        evaluation=EvaluationSettings(severities=(0.0, 1.0)),
        resources=ResourceSettings(),
        selection="pair_robust",
    )


def run(tmp_path: Path, **changes: Any) -> tuple[RunResult, TrialFolder]:
    folder = TrialFolder(tmp_path / "trial")
    return run_trial(config(**changes), folder, SilentReporter()), folder


def test_a_collapsed_search_trial_stops_with_its_reason(tmp_path: Path) -> None:
    # A decay of 9 at rate 0.1 leaves a tenth of the weights after each step: the bias alone decides.
    result, folder = run(tmp_path, weight_decay=9.0)
    assert result.status == "stopped"
    assert result.stop_reason == (
        "collapsed: one class is predicted for every validation example, after 2 evaluations in a row"
    )
    assert len(folder.read_history()) == 2
    assert result.steps == 20  # of 60
    assert result.validation["collapsed"] == 1.0
    assert result.validation["guessing"] == 1.0
    assert result.score == result.validation["kappa"] == 0.0
    assert folder.read_result() == result


def test_a_healthy_search_trial_does_not(tmp_path: Path) -> None:
    result, folder = run(tmp_path)
    assert result.status == "completed"
    assert len(folder.read_history()) == 6


@pytest.mark.parametrize(("phase", "patience"), [("final", 1), ("search", None)])
def test_a_final_run_and_one_without_patience_go_on(tmp_path: Path, phase: str, patience: int | None) -> None:
    result, folder = run(tmp_path, phase=phase, patience=patience, weight_decay=9.0)
    assert result.status == "completed"
    assert result.validation["collapsed"] == 1.0
    assert len(folder.read_history()) == 6


def test_the_verdict_is_given_the_validation_split_s_size_and_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def bad_twice_then_good_then_bad(metrics: dict[str, float], examples: int, classes: int) -> str | None:
        asked.append((examples, classes))
        return None if metrics["step"] == 30 else "bad"

    monkeypatch.setattr(
        trial_module,
        "validation_metrics",
        lambda row: {"step": row.get("step"), "accuracy": 0.5, "collapsed": 0.0},
    )
    monkeypatch.setattr(trial_module, "failure_mode", bad_twice_then_good_then_bad)
    result, folder = run(tmp_path, patience=3, evaluations=12)  # evaluated after 5, 10, ... 60 steps
    # Bad at 5, 10, 15: stopped there, unless the patience were not counted in a row from the first on.
    assert [row["step"] for row in folder.read_history()] == [5, 10, 15]
    assert result.stop_reason == "bad, after 3 evaluations in a row"
    size = len(build_dataset(config().dataset).validation)
    assert set(asked) == {(size, 2)}


def test_a_run_is_not_stopped_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "failure_mode", lambda *_: "bad")
    result, folder = run(tmp_path, patience=3, evaluations=3)
    assert result.status == "completed"
    assert len(folder.read_history()) == 3
