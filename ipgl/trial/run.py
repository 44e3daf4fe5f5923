"""One trial: a pure function from a configuration to a result. Ray, a notebook and a test call this same function."""

from __future__ import annotations

import math
import platform
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipgl import __version__
from ipgl.config import Component, TrialConfig, config_hash
from ipgl.core.errors import IpglError
from ipgl.core.registry import lookup
from ipgl.data import Dataset, Readable, Split, derive_seed
from ipgl.evaluation import (
    SELECTION_RULES,
    Failure,
    GroupCount,
    Predictions,
    RunResult,
    area_under_curve,
    group_metrics,
    group_results,
    interpolation_axis,
    mixture_remarks,
    mixture_weights,
    pair_metrics,
    predict_between,
    predict_logits,
    prediction_metrics,
    probability_metrics,
    run_curves,
    weighted_accuracy,
)
from ipgl.methods import METHODS, MethodContext
from ipgl.methods.base import Method
from ipgl.models import MODELS, Classifier
from ipgl.storage.study_folder import TrialFolder
from ipgl.training import (
    Collective,
    NonFiniteError,
    Reporter,
    Trainer,
    TrainingOutcome,
    choose_device,
    place,
    system_metrics,
    train,
)
from ipgl.training.checkpoint import saved_bytes
from ipgl.training.early_stopping import failure_mode, stop_reason
from ipgl.trial.datasets import training_counts, trial_alignment, trial_dataset
from ipgl.trial.user_code import FOLDER as IMPORTS
from ipgl.trial.user_code import load_imports


def build_model(component: Component, dataset: Dataset, seed: int) -> Classifier:
    """Build the model with initial weights that depend on `seed` alone."""
    entry = lookup("model", MODELS, component.name)
    torch.manual_seed(derive_seed(seed, "weights"))
    return entry.build(
        entry.settings.model_validate(component.settings), dataset.input_shape, dataset.num_classes
    )


def build_method(component: Component, context: MethodContext) -> Method:
    """Build the method that a component names."""
    entry = lookup("method", METHODS, component.name)
    return entry.build(entry.settings.model_validate(component.settings), context)


def run_trial(
    config: TrialConfig, folder: TrialFolder, reporter: Reporter, trainer: Trainer | None = None
) -> RunResult:
    """Train, test once, and leave the result in `folder`; a trial that has a result already just returns it.

    A run that fails for a reason of its own (not finite, wrong shapes, ...) is a result with status `failed`.
    What lies outside it leaves the folder without a result: the end of the process, what the reporter raises, storage
    that fails. Calling again then goes on from the last checkpoint. Of several workers one may fail alone while
    the others wait for it, so that there only what all see alike (`NonFiniteError`) is a result.

    Args:
        config: Everything that the result depends on.
        folder: Where checkpoint, history, model, predictions and result are kept.
        reporter: Receives a row after each evaluation.
        trainer: What trains as `ipgl.training.train` does, together with other trials; None for that itself.

    Raises:
        OSError: The storage, or a file of the data, fails.
        Exception: What the reporter raised; on several workers, what this one failed of.
    """
    existing = folder.read_result()
    if existing:
        return existing
    started = time.time()
    # Known from here on: Ray Train leaves the process group, as a lone worker would never have joined it, under the
    # survivors of a dead worker.
    collective = Collective()
    folder.write_start(config)
    recorder = _Recorder(config, folder, reporter, writes=collective.rank == 0)
    base = base_result(config, started).model_copy(update={"environment": trial_environment()})
    try:
        result = _train_and_test(
            config, folder, recorder, base, trainer or train, writes=collective.rank == 0
        )
    except _StoppedByReporterError as stop:
        raise stop.reason from None
    except _StoppedEarlyError as stop:
        result = stopped_result(base, folder.read_history(), str(stop))
    except OSError:
        raise
    except Exception as error:
        if collective.workers > 1 and not isinstance(error, NonFiniteError):
            raise
        result = base.model_copy(
            update={
                "failure": Failure(
                    kind=type(error).__name__,
                    message=str(error),
                    step=error.step if isinstance(error, NonFiniteError) else None,
                    # What the user can mend needs no stack; anything else is a fault to be found.
                    traceback="" if isinstance(error, IpglError | NonFiniteError) else traceback.format_exc(),
                ),
                "finished_at": time.time(),
            }
        )
    if collective.rank == 0:
        folder.write_result(result)
        folder.drop_checkpoints()
    return result


def base_result(config: TrialConfig, started_at: float) -> RunResult:
    """What every record of a trial holds, however the trial ends; its status is `failed` until something better."""
    data = config.model_dump(mode="json")
    return RunResult(
        study=config.study,
        label=config.label,
        method=config.method.name,
        phase=config.phase,
        trial=config.key,
        seed=config.seed,
        status="failed",
        hyperparameters=config.hyperparameters,
        config=data,
        config_hash=config_hash(data),
        started_at=started_at,
        finished_at=time.time(),
    )


def stopped_result(base: RunResult, history: list[dict[str, float]], reason: str = "") -> RunResult:
    """The record of a trial that ended early: what its last evaluation saw, and no test metrics."""
    last = history[-1] if history else {}
    return base.model_copy(
        update={
            "status": "stopped",
            "stop_reason": reason,
            "score": last.get("score", math.nan),
            "validation": _validation(last),
            "steps": int(last.get("step", 0)),
            "finished_at": time.time(),
        }
    )


def _validation(row: dict[str, float]) -> dict[str, float]:
    return {
        name.removeprefix("validation/"): value
        for name, value in row.items()
        if name.startswith("validation/")
    }


class _StoppedEarlyError(Exception):
    """The run will not recover; the message says why."""


class _StoppedByReporterError(Exception):
    """Carries what the reporter raised past the handler that records failures."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class _Recorder:
    """Keeps the history on storage, then passes each row on."""

    def __init__(self, config: TrialConfig, folder: TrialFolder, reporter: Reporter, *, writes: bool) -> None:
        self._config, self._folder, self._reporter = config, folder, reporter
        self._judged = (1, 1)
        self._rows: list[dict[str, float]] = []
        self._writes = writes

    def resume(self, rows: list[dict[str, float]]) -> None:
        """Take the rows of the checkpoint that the run goes on from."""
        self._keep(rows)

    def report(self, row: dict[str, float]) -> None:
        self._keep([*self._rows, row])
        try:
            self._reporter.report(row)
        except Exception as error:
            raise _StoppedByReporterError(error) from None
        self._judge()

    def _keep(self, rows: list[dict[str, float]]) -> None:
        self._rows = rows
        if self._writes:
            self._folder.keep_checkpoints()
            self._folder.write_history(rows)

    def _judge(self) -> None:
        if self._config.phase != "search":
            return  # a winner's retraining is tested, however it turns out
        training = self._config.training
        size, classes = self._judged
        failure_modes = [failure_mode(_validation(row), size, classes) for row in self._rows]
        reason = stop_reason(failure_modes, training.hopeless_after)
        if reason and self._rows[-1]["epoch"] < training.epochs:
            raise _StoppedEarlyError(reason)

    def judge_by(self, examples: int, num_classes: int) -> None:
        """Say how large the validation split is and how many classes it has."""
        self._judged = examples, num_classes


def _train_and_test(
    config: TrialConfig,
    folder: TrialFolder,
    recorder: _Recorder,
    base: RunResult,
    trainer: Trainer,
    *,
    writes: bool,
) -> RunResult:
    settings, evaluation = config.training, config.evaluation
    device = choose_device(settings)
    dataset = place(trial_dataset(config), device)
    model = build_model(config.model, dataset, config.seed).to(device)
    recorder.judge_by(len(dataset.validation), dataset.num_classes)
    score = lookup("selection rule", SELECTION_RULES, config.selection).score
    classes, attributes = dataset.num_classes, dataset.num_attributes
    alignment = trial_alignment(evaluation, dataset)

    def groups_of(logits: Tensor, split: Split) -> tuple[GroupCount, ...]:
        prediction = logits.argmax(dim=1).to(split.y.device)
        return group_results(prediction, split.y, split.attribute, alignment, classes, attributes)

    batch = settings.evaluation_batch_size

    def evaluate(model: Classifier) -> dict[str, float]:
        logits = predict_logits(model, dataset.validation.x, batch)
        metrics = prediction_metrics(logits, dataset.validation.y.to(device))
        metrics["worst_group"] = group_metrics(groups_of(logits, dataset.validation))["worst_group"]
        pairs = dataset.held_out_pairs
        metrics |= pair_metrics(predict_logits(model, pairs.a, batch), predict_logits(model, pairs.b, batch))
        named = {f"validation/{name}": value for name, value in metrics.items()}
        return named | {"score": score(metrics)} | system_metrics(device)

    folder.fetch_checkpoints()
    outcome: TrainingOutcome = trainer(
        model,
        lambda context: build_method(config.method, context),
        dataset,
        settings,
        seed=config.seed,
        evaluate=evaluate,
        reporter=recorder,
        checkpoint_path=folder.checkpoint,
        config_hash=base.config_hash,
        on_resume=recorder.resume,
    )
    last = outcome.history[-1]

    predictions = _predict(model, dataset, config)
    groups = group_results(
        torch.from_numpy(predictions.prediction).long(),
        dataset.test.y.cpu(),
        dataset.test.attribute.cpu(),
        alignment,
        classes,
        attributes,
        training_counts(dataset),
    )
    curves = run_curves(groups, predictions, evaluation)
    accuracies = np.array([group.accuracy for group in groups])
    target = weighted_accuracy(mixture_weights(groups, [evaluation.target_severity]), accuracies)
    metrics = group_metrics(groups) | {"shifted_accuracy": float(target[0])}
    metrics |= probability_metrics(predictions.probability, predictions.label)
    metrics |= {name: _validation(last)[name] for name in ("flip_rate", "rho")}
    metrics |= {f"area_{name}": area_under_curve(curve) for name, curve in curves.items()}
    if writes:
        if config.phase != "search":
            folder.write_trace(outcome.trace)
        folder.write_predictions(predictions)
        folder.write_model(saved_bytes(model.state_dict()))
    return base.model_copy(
        update={
            "status": "completed",
            "score": last["score"],
            "validation": _validation(last),
            "metrics": metrics,
            "groups": groups,
            "curves": curves,
            "data_fingerprint": dataset.fingerprint,
            "test_fingerprint": predictions.examples,
            "class_names": dataset.class_names,
            "attribute_names": dataset.attribute_names,
            "data_notes": (
                *dataset.notes,
                *mixture_remarks(alignment, groups),
                *(f"{config.key}: {note}" for note in outcome.notes),
            ),
            "steps": outcome.steps,
            "train_seconds": outcome.seconds,
            "finished_at": time.time(),
        }
    )


def _predict(model: Classifier, dataset: Dataset, config: TrialConfig) -> Predictions:
    """Everything that is asked of the trained model: test split, corruptions (final runs), held-out pairs."""
    batch, evaluation, test = config.training.evaluation_batch_size, config.evaluation, dataset.test

    def classes(x: Readable) -> NDArray[np.int32]:
        return predict_logits(model, x, batch).argmax(dim=1).cpu().numpy().astype(np.int32)

    corruptions = dataset.corruptions if "corruption" in evaluation.curves and config.phase == "final" else {}
    points = evaluation.interpolation_points if "interpolation" in evaluation.curves else 0
    logits = predict_logits(model, test.x, batch)
    return Predictions(
        label=test.y.cpu().numpy().astype(np.int32),
        attribute=test.attribute.cpu().numpy().astype(np.int32),
        prediction=logits.argmax(dim=1).cpu().numpy().astype(np.int32),
        probability=logits.softmax(dim=1).cpu().numpy(),
        corrupted={
            name: np.stack([classes(corrupt(level)) for level in evaluation.corruption_levels])
            for name, corrupt in corruptions.items()
        },
        levels={name: evaluation.corruption_levels for name in corruptions},
        along=predict_between(model, dataset.held_out_pairs, interpolation_axis(points), batch)
        .cpu()
        .numpy()
        .astype(np.int32),
    )


def trial_environment() -> dict[str, str]:
    """Versions and machine that a result came from."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "ipgl": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "host": platform.node(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


def load_model(folder: Path) -> Classifier:
    """The trained model of a completed trial, in evaluation mode on the CPU.

    Args:
        folder: The trial's folder, as `TrialFolder.path`.
    """
    trial = TrialFolder(folder)
    study = folder.parent.parent
    load_imports([path.name for path in sorted((study / IMPORTS).glob("*.py"))], study)
    config = TrialConfig.model_validate(trial.require_result().config)
    model = build_model(config.model, trial_dataset(config), config.seed)
    model.load_state_dict(torch.load(trial.model, weights_only=True, map_location="cpu"))
    return model.eval()
