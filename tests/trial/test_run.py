"""Whole trials on the digits of scikit-learn."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from narrowing import Keywords, as_tensor, known

from ipgl.config import (
    Component,
    EvaluationSettings,
    OptimiserSettings,
    ResourceSettings,
    TrainingSettings,
    TrialConfig,
    config_hash,
)
from ipgl.core.errors import StudyStateError
from ipgl.core.registry import UnknownNameError
from ipgl.evaluation import (
    GroupCount,
    Predictions,
    RunResult,
    group_metrics,
    predict_logits,
    prediction_metrics,
    probability_metrics,
)
from ipgl.methods import METHODS, MethodContext
from ipgl.models import MODELS
from ipgl.storage.trial_dir import TrialFolder
from ipgl.training import SilentReporter
from ipgl.trial import datasets as trial_data
from ipgl.trial import run as trial_module
from ipgl.trial import testing
from ipgl.trial.build import build_method, build_model, load_model
from ipgl.trial.datasets import build_dataset
from ipgl.trial.run import run_trial

DATASET = Component(
    name="colored_mnist", source="digits", pairs={"train": 60, "held_out": 40}, test_agreement=0.4
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


def config(method: str = "ipg", **changes: object) -> TrialConfig:
    training = TrainingSettings(
        epochs=3,
        batch_size=100,
        optimiser=OptimiserSettings(name="adam", lr=3e-3),
        evaluations=4,
        checkpoint_seconds=0.0,
        device="cpu",
    )
    settings = {"update": "sequential", "strength": 2.0, "pairs_per_step": 20} if method == "ipg" else {}
    fields = {
        "study": "colours",
        "label": method,
        "phase": "search",
        "seed": 0,
        "hyperparameters": {"strength": 2.0} if method == "ipg" else {},
        "dataset": DATASET,
        "model": Component(name="mlp", width=16, depth=1),
        "method": Component(name=method, **settings),
        "training": training,
        "evaluation": EvaluationSettings(severities=(0.0, 0.5, 1.0)),
        "resources": ResourceSettings(),
        "selection": "pair_robust",
    }
    return TrialConfig(**(fields | changes))


def training(**changes: object) -> TrainingSettings:
    return config().training.model_copy(update=changes)


class Rows:
    """A reporter that keeps its rows, and may raise after one of them."""

    def __init__(self, raise_after: int = 0, error: BaseException | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self._raise_after, self._error = raise_after, error or Exception()

    def report(self, row: dict[str, float]) -> None:
        self.rows.append(dict(row))
        if len(self.rows) == self._raise_after:
            raise self._error


class StopHere(Exception):
    """What a scheduler raises to end a run."""


def names(folder: TrialFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def without_time(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """The rows without what depends on the machine and its clock."""
    return [
        {name: value for name, value in row.items() if name != "time" and not name.startswith("system/")}
        for row in rows
    ]


def state(folder: TrialFolder) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder.files.model, weights_only=True)
    return found


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]]:
    """One undisturbed run: its configuration, folder, result and rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = TrialFolder(tmp_path_factory.mktemp("undisturbed") / "trial")
    reporter = Rows()
    result = run_trial(config(), folder, reporter)
    torch.set_num_threads(threads)
    return config(), folder, result, reporter.rows


def test_a_completed_run(done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]]) -> None:
    run_config, folder, result, _ = done
    assert names(folder) == [
        "history.json",
        "model.pt",
        "pairs.parquet",
        "predictions.parquet",
        "result.json",
        "trial.json",
    ]
    assert result.status == "completed"
    assert result.failure is None
    assert (result.study, result.label, result.method, result.phase, result.seed) == (
        "colours",
        "ipg",
        "ipg",
        "search",
        0,
    )
    assert result.trial == run_config.key
    assert result.hyperparameters == {"strength": 2.0}
    assert result.config == run_config.model_dump(mode="json")
    assert result.config_hash == config_hash(run_config.model_dump(mode="json"))
    assert result.steps == 30  # three epochs over 1,000 digits in batches of 100
    assert 0 < result.train_seconds < 60
    assert result.started_at < result.finished_at
    assert result.data_fingerprint == build_dataset(DATASET).fingerprint
    assert {"ipgl", "python", "torch", "host", "device", "threads"} <= result.environment.keys()
    assert result.environment["threads"] == "1"
    assert folder.read_result() == result
    assert folder.read_start() == run_config


def test_its_history(done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]]) -> None:
    _, folder, result, rows = done
    assert folder.read_history() == rows
    assert [row["step"] for row in rows] == [8, 15, 22, 30]
    for row in rows:
        kappa = row["validation/kappa"]
        assert row["score"] == pytest.approx(
            kappa * (1 - row["validation/flip_rate"]) ** 2 if kappa > 0 else kappa, rel=1e-12
        )
    assert rows[-1]["validation/kappa"] > 0.5
    assert rows[-1]["validation/guessing"] == 0.0
    assert result.score == rows[-1]["score"]
    assert result.validation == {
        name.removeprefix("validation/"): value
        for name, value in rows[-1].items()
        if name.startswith("validation/")
    }


def test_no_test_data_in_what_choices_are_made_from(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
) -> None:
    """Names say where a number is from; and labels of the test split changed afterwards change none of them."""
    _, _, result, rows = done
    assert set(result.validation) == {
        "accuracy",
        "nll",
        "collapsed",
        "kappa",
        "guessing",
        "flip_rate",
        "rho",
        "worst_group",
    }
    for row in rows:
        assert {name.split("/")[0] for name in row} == {
            "evaluation",
            "step",
            "epoch",
            "time",
            "train",
            "diagnostic",
            "validation",
            "score",
            "system",
        }


def test_the_test_split_does_not_touch_training(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, folder, result, rows = done
    dataset = build_dataset(DATASET)
    test = type(dataset.test)(
        torch.zeros_like(as_tensor(dataset.test.x)),
        1 - dataset.test.y,
        dataset.test.attribute,
        dataset.test.environment,
    )
    spoilt = type(dataset)(**(vars(dataset) | {"test": test}))
    monkeypatch.setattr(trial_data, "cached_dataset", lambda component: spoilt)
    other = TrialFolder(tmp_path / "trial")
    found = run_trial(config(), other, SilentReporter())
    assert same_bits(state(other), state(folder))
    assert without_time(other.read_history()) == without_time(rows)
    assert found.validation == result.validation
    assert found.score == result.score
    assert found.metrics != result.metrics


def test_its_groups_and_metrics_follow_from_its_predictions(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
) -> None:
    _, folder, result, _ = done
    stored = folder.artifacts.read_predictions()
    dataset = build_dataset(DATASET)
    np.testing.assert_array_equal(stored.label, dataset.test.y.numpy())
    np.testing.assert_array_equal(stored.attribute, dataset.test.attribute.numpy())
    hit = stored.prediction == stored.label
    training = dataset.train.y * 2 + dataset.train.attribute
    for group in result.groups:
        members = (stored.label == group.label) & (stored.attribute == group.attribute)
        assert group.training_count == (training == group.label * 2 + group.attribute).sum()
        assert (group.count, group.correct) == (members.sum(), hit[members].sum())
        assert group.aligned == (group.label == group.attribute)  # colour agrees with the label in training
    assert sum(group.count for group in result.groups) == 500
    accuracies = {(group.label, group.attribute): group.accuracy for group in result.groups}
    assert result.metrics["average"] == pytest.approx(hit.mean())
    assert result.metrics["worst_group"] == min(accuracies.values())
    assert result.metrics["group_mean"] == pytest.approx(sum(accuracies.values()) / 4)
    assert {name: result.metrics[name] for name in group_metrics(result.groups)} == group_metrics(
        result.groups
    )

    prior = np.array([(stored.label == label).mean() for label in (0, 1)])
    aligned = prior @ [accuracies[0, 0], accuracies[1, 1]]
    conflicting = prior @ [accuracies[0, 1], accuracies[1, 0]]
    curve = result.curves["mixture"]
    expected = [aligned, (aligned + conflicting) / 2, conflicting]
    assert [point.accuracy for point in curve] == pytest.approx(expected, rel=1e-12)
    assert result.metrics["area_mixture"] == pytest.approx((aligned + conflicting) / 2, rel=1e-12)
    assert list(result.curves) == ["mixture", "worst_case_kl", "worst_case_tv", "interpolation"]
    shifted = 0.1 * aligned + 0.9 * conflicting  # the target severity is 0.9
    assert result.metrics["shifted_accuracy"] == pytest.approx(shifted, rel=1e-12)


def test_the_loaded_model_predicts_what_is_stored(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
) -> None:
    _, folder, _, _ = done
    model = load_model(folder.path)
    assert not model.training
    logits = predict_logits(model, build_dataset(DATASET).test.x, 2048)
    stored = folder.artifacts.read_predictions()
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), stored.prediction)
    np.testing.assert_allclose(stored.probability, logits.softmax(dim=1).numpy(), atol=1e-6)


def test_its_curves_and_metrics_beyond_groups(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
) -> None:
    _, folder, result, rows = done
    stored, evaluation = folder.artifacts.read_predictions(), config().evaluation
    counts = np.array([group.training_count for group in result.groups])
    accuracies = np.array([group.accuracy for group in result.groups])
    centre = accuracies @ counts / counts.sum()
    assert result.metrics["adjusted_average"] == pytest.approx(centre)
    kl, tv = result.curves["worst_case_kl"], result.curves["worst_case_tv"]
    assert [point.severity for point in kl] == list(evaluation.kl_radii)
    assert [point.severity for point in tv] == list(evaluation.tv_radii)
    for curve in (kl, tv):
        assert curve[0].accuracy == pytest.approx(centre)  # around the training mix
    assert tv[-1].accuracy == pytest.approx(accuracies.min())
    assert kl[-1].accuracy >= accuracies.min()

    dataset, model = build_dataset(DATASET), load_model(folder.path)
    pairs = dataset.held_out_pairs
    assert stored.along.shape == (11, 40)
    with torch.inference_mode():
        for row, t in ((0, 0.0), (3, 0.3), (10, 1.0)):
            expected = model((1 - t) * as_tensor(pairs.a) + t * as_tensor(pairs.b)).argmax(dim=1)
            np.testing.assert_array_equal(stored.along[row], expected.numpy())
    consistent = (stored.along == stored.along[0]).mean(axis=1)
    assert [point.accuracy for point in result.curves["interpolation"]] == pytest.approx(consistent.tolist())
    assert result.metrics["flip_rate"] == rows[-1]["validation/flip_rate"]
    assert 1 - consistent[-1] == pytest.approx(result.metrics["flip_rate"])
    assert result.metrics["rho"] == rows[-1]["validation/rho"]
    for name, value in probability_metrics(stored.probability, stored.label).items():
        assert result.metrics[name] == pytest.approx(value)
    assert {f"area_{name}" for name in result.curves} <= result.metrics.keys()
    assert stored.corrupted == {}  # those are for final runs


def test_a_final_run_is_tested_on_corruptions_too(tmp_path: Path) -> None:
    evaluation = EvaluationSettings(corruption_levels=(0.0, 0.5, 1.0), interpolation_points=2)
    folder = TrialFolder(tmp_path / "trial")
    result = run_trial(config(phase="final", evaluation=evaluation), folder, SilentReporter())
    assert [name for name in result.curves if name.startswith("corruption")] == [
        "corruption_hue",
        "corruption_saturation",
    ]
    stored, dataset, model = (
        folder.artifacts.read_predictions(),
        build_dataset(DATASET),
        load_model(folder.path),
    )
    assert stored.along.shape == (2, 40)
    for name, rows in stored.corrupted.items():
        assert stored.levels[name] == (0.0, 0.5, 1.0)
        np.testing.assert_array_equal(rows[0], stored.prediction)
        logits = predict_logits(model, dataset.corruptions[name](0.5), 2048)
        np.testing.assert_array_equal(rows[1], logits.argmax(dim=1).numpy())
        assert result.curves[f"corruption_{name}"][0].accuracy == pytest.approx(
            result.metrics["adjusted_average"]
        )


def test_a_final_run_keeps_what_its_steps_reported(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]], tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path / "final")
    balanced = Component(name="ipg", pairs_per_step=20)
    final = config(phase="final").model_copy(update={"method": balanced})
    run_trial(final, folder, SilentReporter())
    trace, history = folder.read_trace(), folder.read_history()
    assert [row["step"] for row in trace] == list(range(1, int(history[-1]["step"]) + 1))
    assert {"loss", "measure", "corrected", "task_length", "corrective_length"} <= trace[0].keys()
    losses = [row["loss"] for row in trace]
    ends = [0, *(int(row["step"]) for row in history)]
    means = [sum(losses[a:b]) / (b - a) for a, b in itertools.pairwise(ends)]
    assert [row["train/loss"] for row in history] == pytest.approx(means, rel=1e-4)
    # A search has many trials and nobody looks at each.
    assert done[1].read_trace() == []
    (folder.path / "trace.json").write_text("[{")
    assert folder.read_trace() == []  # it costs a figure, not the run


def test_only_the_curves_that_are_asked_for(tmp_path: Path) -> None:
    evaluation = EvaluationSettings(curves=("mixture",))
    folder = TrialFolder(tmp_path / "trial")
    result = run_trial(config(phase="final", evaluation=evaluation), folder, SilentReporter())
    assert list(result.curves) == ["mixture"]
    assert not folder.files.pair_predictions.exists()
    stored = folder.artifacts.read_predictions()
    assert stored.corrupted == {}
    assert stored.along.size == 0


def test_runs_share_a_test_fingerprint_if_they_share_the_test_examples(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]], tmp_path: Path
) -> None:
    _, _, result, _ = done
    finger = {}
    other = Component(name=DATASET.name, **(DATASET.settings | {"seed": 1}))
    given: dict[str, Keywords] = {"same": {"seed": 1}, "other": {"dataset": other}}
    for name, changes in given.items():
        short = training(epochs=1, evaluations=1)
        found = run_trial(config(training=short, **changes), TrialFolder(tmp_path / name), SilentReporter())
        finger[name] = found.test_fingerprint
    assert finger["same"] == result.test_fingerprint
    assert finger["other"] != result.test_fingerprint
    assert {len(value) for value in finger.values()} == {64}


def test_its_history_says_what_it_took_from_the_machine(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
) -> None:
    _, _, _, rows = done
    for row in rows:
        assert {name for name in row if name.startswith("system/")} == {
            "system/memory_mib",
            "system/cpu_percent",
        }
        assert 100 < row["system/memory_mib"] < 100_000
        assert row["system/cpu_percent"] >= 0


def test_its_validation_metrics_are_of_the_validation_split_and_the_held_out_pairs(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
) -> None:
    _, folder, result, _ = done
    model, dataset = load_model(folder.path), build_dataset(DATASET)
    validation, pairs = dataset.validation, dataset.held_out_pairs
    with torch.inference_mode():
        logits, first, second = model(validation.x), model(pairs.a), model(pairs.b)
    hit = logits.argmax(dim=1) == validation.y
    assert result.validation["accuracy"] == pytest.approx(hit.float().mean().item(), rel=1e-6)
    probability = logits.softmax(dim=1)[torch.arange(len(hit)), validation.y]
    assert result.validation["nll"] == pytest.approx(-probability.log().mean().item(), rel=1e-4)
    groups = [hit[(validation.y == y) & (validation.attribute == a)] for y in (0, 1) for a in (0, 1)]
    worst = min(group.double().mean().item() for group in groups)
    assert result.validation["worst_group"] == pytest.approx(worst, rel=1e-6)
    flips = (first.argmax(dim=1) != second.argmax(dim=1)).float().mean().item()
    assert result.validation["flip_rate"] == pytest.approx(flips, rel=1e-6)
    a, b = (u.double() - u.double().mean(dim=1, keepdim=True) for u in (first, second))
    members = torch.cat([a, b])
    variance = (members - members.mean(dim=0)).square().sum() / (len(members) - 1)
    rho = ((a - b).square().sum(dim=1).mean() / 2 / variance).item()
    assert result.validation["rho"] == pytest.approx(rho, rel=1e-4)


def test_loading_a_model_that_has_not_been_trained(tmp_path: Path) -> None:
    with pytest.raises(StudyStateError, match="there is no result; the run has not ended"):
        load_model(tmp_path)


def test_a_finished_run_is_returned_and_not_trained_again(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_config, folder, result, _ = done
    monkeypatch.setattr(trial_module, "train", lambda *a, **k: pytest.fail("trained again"))
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    reporter = Rows()
    assert run_trial(run_config, folder, reporter) == result
    assert reporter.rows == []
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


def test_equal_configurations_give_equal_models_and_other_seeds_do_not(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]], tmp_path: Path
) -> None:
    _, folder, result, _ = done
    again, other = TrialFolder(tmp_path / "again"), TrialFolder(tmp_path / "other")
    repeated = run_trial(config(), again, SilentReporter())
    run_trial(config(seed=1), other, SilentReporter())
    assert same_bits(state(again), state(folder))
    assert repeated.metrics == result.metrics
    assert repeated.curves == result.curves
    assert not same_bits(state(other), state(folder))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    dataset = build_dataset(DATASET)
    first = build_model(config().model, dataset, 3)
    torch.rand(7)
    second, other = build_model(config().model, dataset, 3), build_model(config().model, dataset, 4)
    assert same_bits(first.state_dict(), second.state_dict())
    assert not same_bits(first.state_dict(), other.state_dict())


# --- interrupted ---


@pytest.mark.parametrize("method", ["erm", "ipg"])
@pytest.mark.parametrize("stopped_after", [1, 2, 4])
def test_what_the_reporter_raises_leaves_no_result_and_a_second_call_goes_on(
    tmp_path: Path, method: str, stopped_after: int
) -> None:
    undisturbed = TrialFolder(tmp_path / "undisturbed")
    expected = run_trial(config(method), undisturbed, SilentReporter())

    folder, error = TrialFolder(tmp_path / "stopped"), StopHere("enough")
    with pytest.raises(StopHere) as caught:
        run_trial(config(method), folder, Rows(stopped_after, error))
    assert caught.value is error
    assert names(folder) == ["checkpoint.pt", "history.json", "trial.json"]
    assert len(folder.read_history()) == stopped_after

    reporter = Rows()
    result = run_trial(config(method), folder, reporter)
    assert [row["evaluation"] for row in reporter.rows] == list(range(stopped_after + 1, 5))
    assert result.status == "completed"
    assert same_bits(state(folder), state(undisturbed))
    assert result.metrics == expected.metrics
    assert result.score == expected.score
    assert without_time(folder.read_history()) == without_time(undisturbed.read_history())
    assert names(folder) == names(undisturbed)
    np.testing.assert_array_equal(
        folder.artifacts.read_predictions().prediction, undisturbed.artifacts.read_predictions().prediction
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_the_end_of_the_process_is_no_failure(tmp_path: Path, error: KeyboardInterrupt | SystemExit) -> None:
    folder = TrialFolder(tmp_path / "trial")
    with pytest.raises(type(error)):
        run_trial(config(), folder, Rows(2, error))
    assert folder.read_result() is None
    assert run_trial(config(), folder, SilentReporter()).status == "completed"


def test_killed_before_the_first_checkpoint(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]], tmp_path: Path
) -> None:
    _, undisturbed, _, _ = done
    folder = TrialFolder(tmp_path / "trial")
    slow = config(training=training(checkpoint_seconds=1e6))
    with pytest.raises(StopHere):
        run_trial(slow, folder, Rows(2, StopHere()))
    assert names(folder) == ["history.json", "trial.json"]
    on_storage = []

    class Reader(Rows):
        def report(self, row: dict[str, float]) -> None:
            super().report(row)
            on_storage.append([old["evaluation"] for old in folder.read_history()])

    reporter = Reader()
    run_trial(slow, folder, reporter)
    assert [row["evaluation"] for row in reporter.rows] == [1, 2, 3, 4]
    assert on_storage == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4]]  # rows of the lost attempt are replaced
    assert len(folder.read_history()) == 4
    assert same_bits(state(folder), state(undisturbed))


@pytest.mark.parametrize("row", [1, 2, 4])
def test_killed_between_checkpoint_and_history_no_row_is_lost(
    done: tuple[TrialConfig, TrialFolder, RunResult, list[dict[str, float]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    row: int,
) -> None:
    _, undisturbed, _, _ = done
    folder = TrialFolder(tmp_path / "trial")
    write = TrialFolder.write_history

    def die(self: TrialFolder, rows: list[dict[str, float]]) -> None:
        if len(rows) == row:
            raise KeyboardInterrupt
        write(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(TrialFolder, "write_history", die)
        with pytest.raises(KeyboardInterrupt):
            run_trial(config(), folder, SilentReporter())
    run_trial(config(), folder, SilentReporter())
    assert without_time(folder.read_history()) == without_time(undisturbed.read_history())
    assert same_bits(state(folder), state(undisturbed))


# --- failed ---


def test_numbers_that_run_away_are_a_recorded_failure(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    hot = config(training=training(optimiser=OptimiserSettings(name="sgd", lr=1e30)))
    reporter = Rows()
    result = run_trial(hot, folder, reporter)
    assert result.status == "failed"
    assert known(result.failure).kind == "NonFiniteError"
    # One step throws the weights to about 1e28 in both layers; their product is no float32 any more.
    assert known(result.failure).step == 2
    assert "the training loss must stay finite" in known(result.failure).message
    assert "at step 2;" in known(result.failure).message
    assert known(result.failure).traceback == ""
    assert math.isnan(result.score)
    assert (result.metrics, result.groups, result.curves, result.validation) == ({}, (), {}, {})
    assert result.hyperparameters == {"strength": 2.0}
    assert result.finished_at >= result.started_at > 0
    assert reporter.rows == []
    assert names(folder) == ["result.json", "trial.json"]
    assert json.loads(folder.files.result.read_text())["failure"]["step"] == 2


def test_a_fault_is_a_recorded_failure_with_its_stack(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    dataset = Component(name="colored_mnist", source="digits", pairs={"train": 0, "held_out": 40})
    result = run_trial(config(dataset=dataset), folder, SilentReporter())
    assert result.status == "failed"
    assert known(result.failure).kind == "ValueError"
    assert known(result.failure).message == "`size >= 1` must hold, but got (size=0)"
    assert known(result.failure).step is None
    assert "Traceback" in known(result.failure).traceback
    assert "order.py" in known(result.failure).traceback


@pytest.mark.parametrize("rank", [0, 1])
def test_the_survivor_of_a_dead_worker_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """Ray Train takes the survivor out of the process group while it still waits for the dead one."""
    members = {"is_initialized": True, "get_world_size": 2, "get_rank": rank}
    for name in members:
        monkeypatch.setattr(torch.distributed, name, lambda name=name: members[name])

    def train(*_: object, **__: object) -> None:
        members["is_initialized"] = False
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:545] Connection closed by peer")

    monkeypatch.setattr(trial_module, "train", train)
    folder = TrialFolder(tmp_path)
    with pytest.raises(RuntimeError, match="Connection closed"):
        run_trial(config("erm"), folder, SilentReporter())
    assert folder.read_result() is None


def test_what_the_user_can_mend_needs_no_stack(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    dataset = Component(name="colored_mnist", source="digits", pairs={"train": 990, "held_out": 40})
    result = run_trial(config(dataset=dataset), folder, SilentReporter())
    assert result.status == "failed"
    assert known(result.failure).kind == "DataError"
    assert "train=990, held_out=40, digits=1000" in known(result.failure).message
    assert known(result.failure).traceback == ""


def test_a_failed_run_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = TrialFolder(tmp_path / "trial")
    broken = config(model=Component(name="no_such_model"))
    first = run_trial(broken, folder, SilentReporter())
    assert first.status == "failed"
    assert known(first.failure).kind == "UnknownNameError"
    monkeypatch.setattr(trial_module, "train", lambda *a, **k: pytest.fail("trained again"))
    assert run_trial(broken, folder, SilentReporter()).failure == first.failure


def test_a_failure_late_in_the_run_keeps_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(
        *arguments: tuple[GroupCount, GroupCount, GroupCount, GroupCount] | Predictions | EvaluationSettings,
        **options: object,
    ) -> None:
        raise ZeroDivisionError("no groups")

    monkeypatch.setattr(testing, "run_curves", refuse)
    folder = TrialFolder(tmp_path / "trial")
    result = run_trial(config(), folder, SilentReporter())
    assert (result.status, known(result.failure).kind, known(result.failure).message) == (
        "failed",
        "ZeroDivisionError",
        "no groups",
    )
    assert len(folder.read_history()) == 4
    assert not folder.files.checkpoint.exists()


# --- given up ---

ONE_CLASS = {"collapsed": 1.0, "accuracy": 0.5}
BELOW_GUESSING = {"collapsed": 0.0, "accuracy": 0.1, "kappa": -0.8}
FINE = {"collapsed": 0.0, "accuracy": 0.8}


def with_verdicts(monkeypatch: pytest.MonkeyPatch, kinds: list[dict[str, float]]) -> None:
    """Let the validation metrics of each evaluation be as listed."""
    left = list(kinds)
    monkeypatch.setattr(
        trial_module, "prediction_metrics", lambda *given: prediction_metrics(*given) | left.pop(0)
    )


@pytest.mark.parametrize(("kind", "word"), [(ONE_CLASS, "collapsed"), (BELOW_GUESSING, "overshot")])
def test_a_hopeless_search_trial_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: dict[str, float], word: str
) -> None:
    with_verdicts(monkeypatch, [FINE, kind, kind, FINE])
    folder, reporter = TrialFolder(tmp_path / "trial"), Rows()
    result = run_trial(config(training=training(hopeless_after=2)), folder, reporter)
    assert result.status == "stopped"
    assert result.failure is None
    assert result.stop_reason.startswith(word)
    assert result.stop_reason.endswith("after 2 evaluations in a row")
    assert [row["evaluation"] for row in reporter.rows] == [1, 2, 3]
    assert result.steps == 22
    assert result.score == reporter.rows[-1]["score"]
    assert result.validation["accuracy"] == kind["accuracy"]
    assert (result.metrics, result.groups, result.curves) == ({}, (), {})  # the test split was not looked at
    assert names(folder) == ["history.json", "result.json", "trial.json"]
    assert folder.read_result() == result


@pytest.mark.parametrize(
    ("kinds", "changes"),
    [
        ([ONE_CLASS, ONE_CLASS, FINE, ONE_CLASS], {"hopeless_after": 3}),  # not in a row
        ([FINE, FINE, ONE_CLASS, ONE_CLASS], {"hopeless_after": 2}),  # only after the last evaluation
        ([ONE_CLASS] * 4, {"hopeless_after": None}),
    ],
)
def test_other_search_trials_run_to_their_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kinds: list[dict[str, float]],
    changes: dict[str, int | None],
) -> None:
    with_verdicts(monkeypatch, kinds)
    result = run_trial(
        config(training=training(**changes)), TrialFolder(tmp_path / "trial"), SilentReporter()
    )
    assert result.status == "completed"
    assert result.stop_reason == ""


def test_a_final_run_is_tested_however_it_turns_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_verdicts(monkeypatch, [ONE_CLASS] * 4)
    run_config = config(phase="final", training=training(hopeless_after=1))
    result = run_trial(run_config, TrialFolder(tmp_path / "trial"), SilentReporter())
    assert result.status == "completed"
    assert result.metrics


def test_a_resumed_run_counts_the_evaluations_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_verdicts(monkeypatch, [ONE_CLASS] * 4)
    folder = TrialFolder(tmp_path / "trial")
    run_config = config(training=training(hopeless_after=3))
    with pytest.raises(StopHere):
        run_trial(run_config, folder, Rows(2, StopHere()))
    reporter = Rows()
    assert run_trial(run_config, folder, reporter).status == "stopped"
    assert [row["evaluation"] for row in reporter.rows] == [3]


# --- building ---


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_dataset(Component(name="mnist")), "unknown dataset 'mnist'"),
        (lambda: build_model(Component(name="mlq"), build_dataset(DATASET), 0), "did you mean 'mlp'"),
        (lambda: build_method(Component(name="imp"), cast(MethodContext, None)), "unknown method 'imp'"),
    ],
)
def test_an_unknown_name_lists_the_choices(build: Callable[..., object], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build()


def test_every_model_trains_with_every_method(tmp_path: Path) -> None:
    for model in sorted(set(MODELS) - {"resnet18", "resnet50"}):
        for method in sorted(METHODS):
            run_config = config(
                method,
                model=Component(name=model, width=8),
                training=training(epochs=1, evaluations=1),
            )
            result = run_trial(run_config, TrialFolder(tmp_path / f"{model}-{method}"), SilentReporter())
            assert result.status == "completed", result.failure
