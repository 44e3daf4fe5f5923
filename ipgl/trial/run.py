"""Running a trial: a function of its configuration, which Ray workers, notebooks and tests all call."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ipgl.config import Component, EvaluationSettings, TrainingSettings, TrialConfig
from ipgl.core.errors import IpglError
from ipgl.core.registry import lookup
from ipgl.data import Alignment, Dataset, Split
from ipgl.evaluation import (
    SELECTION_RULES,
    Failure,
    GroupCount,
    RunResult,
    group_metrics,
    group_results,
    mixture_remarks,
    predict_logits,
    prediction_metrics,
)
from ipgl.evaluation.predict import device_of
from ipgl.models import Classifier
from ipgl.storage.trial_dir import TrialFolder
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
from ipgl.trial.build import build_method, build_model
from ipgl.trial.datasets import trial_alignment, trial_dataset
from ipgl.trial.records import base_result, stopped_result, trial_environment, validation_metrics
from ipgl.trial.testing import TestedModel, pair_set_metrics, run_test


def run_trial(
    config: TrialConfig, folder: TrialFolder, reporter: Reporter, trainer: Trainer | None = None
) -> RunResult:
    """Train and test a model, and write the result to `folder`; if the folder has a result already, return that.

    Failures of the trial itself (loss that is not finite, wrong shapes, ...) give a result with status `failed`. Other
    failures leave no result: the process is killed, the reporter raises, or storage fails. A further call then
    continues from the last checkpoint. On several workers, only `NonFiniteError`, which all workers see, gives
    a result: any other error may occur on one worker while the others wait for it.

    Args:
        config: The complete configuration of the trial.
        folder: The trial's folder.
        reporter: Receives a row after each evaluation.
        trainer: A replacement of `ipgl.training.train` with the same interface, which may train several trials
            together; None for `ipgl.training.train` itself.

    Raises:
        OSError: The storage, or a file of the data, cannot be read or written.
        Exception: The reporter's own exceptions; on several workers, also errors of this worker.
    """
    existing = folder.read_result()
    if existing:
        return existing
    started = time.time()
    # Made before training: when a worker dies, Ray Train makes the others leave the process group, and each would
    # then count as a single worker.
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
        result = base.model_copy(update={"failure": _failure(error), "finished_at": time.time()})
    if collective.rank == 0:
        folder.write_result(result)
        folder.checkpoints.remove()
    return result


def _failure(error: Exception) -> Failure:
    """The record of an exception that is being handled."""
    return Failure(
        kind=type(error).__name__,
        message=str(error),
        step=error.step if isinstance(error, NonFiniteError) else None,
        # Errors that the user can correct need no traceback.
        traceback="" if isinstance(error, IpglError | NonFiniteError) else traceback.format_exc(),
    )


class _StoppedEarlyError(Exception):
    """The trial is stopped because its metrics will not recover; the message gives the reason."""


class _StoppedByReporterError(Exception):
    """Wraps an exception of the reporter, so that it is not recorded as a failure of the trial."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class _Recorder:
    """A reporter that writes the history to storage, passes rows on, and stops trials that will not recover."""

    def __init__(self, config: TrialConfig, folder: TrialFolder, reporter: Reporter, *, writes: bool) -> None:
        self._config, self._folder, self._reporter = config, folder, reporter
        self._judged = (1, 1)
        self._rows: list[dict[str, float]] = []
        self._writes = writes

    def resume(self, rows: list[dict[str, float]]) -> None:
        """Set the history to the rows of the checkpoint from which training continues."""
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
            self._folder.checkpoints.publish()
            self._folder.write_history(rows)

    def _judge(self) -> None:
        if self._config.phase != "search":
            return  # final runs are always tested
        training = self._config.training
        size, classes = self._judged
        failure_modes = [failure_mode(validation_metrics(row), size, classes) for row in self._rows]
        reason = stop_reason(failure_modes, training.hopeless_after)
        if reason and self._rows[-1]["epoch"] < training.epochs:
            raise _StoppedEarlyError(reason)

    def judge_by(self, examples: int, num_classes: int) -> None:
        """Set the size of the validation split and the number of classes, which the stopping rule uses."""
        self._judged = examples, num_classes


@dataclass(frozen=True)
class Validation:
    """Evaluation of a model on the validation split and the held-out pairs; a callback of `ipgl.training.train`.

    Attributes:
        dataset: The data.
        alignment: Which attribute value agrees with each class.
        batch_size: Inputs in one forward pass.
        score: The selection rule's score as a function of the metrics.
    """

    dataset: Dataset
    alignment: Alignment
    batch_size: int
    score: Callable[[dict[str, float]], float]

    def __call__(self, model: Classifier) -> dict[str, float]:
        """Metrics by name (`validation/...`), the selection score (`score`), and the load of the machine."""
        dataset = self.dataset
        device = device_of(model)
        logits = predict_logits(model, dataset.validation.x, self.batch_size)
        metrics = prediction_metrics(logits, dataset.validation.y.to(device))
        metrics["worst_group"] = group_metrics(self._groups(logits, dataset.validation))["worst_group"]
        metrics |= pair_set_metrics(model, dataset.held_out_pairs, self.batch_size)
        named = {f"validation/{name}": value for name, value in metrics.items()}
        return named | {"score": self.score(metrics)} | system_metrics(device)

    def _groups(self, logits: Tensor, split: Split) -> tuple[GroupCount, ...]:
        prediction = logits.argmax(dim=1).to(split.y.device)
        classes, attributes = self.dataset.num_classes, self.dataset.num_attributes
        return group_results(prediction, split.y, split.attribute, self.alignment, classes, attributes)


def _train_and_test(
    config: TrialConfig,
    folder: TrialFolder,
    recorder: _Recorder,
    base: RunResult,
    trainer: Trainer,
    *,
    writes: bool,
) -> RunResult:
    device = choose_device(config.training)
    dataset = place(trial_dataset(config), device)
    model = build_model(config.model, dataset, config.seed).to(device)
    recorder.judge_by(len(dataset.validation), dataset.num_classes)
    alignment = trial_alignment(config.evaluation, dataset)
    folder.checkpoints.fetch()
    outcome, tested = fit_and_test(
        model,
        dataset,
        alignment,
        config.method,
        config.training,
        config.evaluation,
        config.selection,
        corruptions=config.phase == "final",
        trainer=partial(
            trainer,
            seed=config.seed,
            reporter=recorder,
            checkpoint_path=folder.files.checkpoint,
            config_hash=base.config_hash,
            on_resume=recorder.resume,
        ),
    )
    if writes:
        if config.phase != "search":
            folder.write_trace(outcome.trace)
        folder.artifacts.write_predictions(tested.predictions)
        folder.artifacts.write_model(saved_bytes(model.state_dict()))
    notes = (
        *dataset.notes,
        *mixture_remarks(alignment, tested.groups),
        *(f"{config.key}: {note}" for note in outcome.notes),
    )
    return completed_result(base, outcome, tested, dataset, notes)


def fit_and_test(
    model: Classifier,
    dataset: Dataset,
    alignment: Alignment,
    method: Component,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    selection: str,
    *,
    corruptions: bool,
    trainer: Trainer,
) -> tuple[TrainingOutcome, TestedModel]:
    """Train a model by a method, and evaluate it once on the test split.

    Args:
        model: The model, on the device on which it is trained.
        dataset: The data, placed for that device.
        alignment: Which attribute value agrees with each class.
        method: The method.
        training: Optimiser, epochs, intervals.
        evaluation: The curves and their points.
        selection: The rule of the score that each evaluation during training reports.
        corruptions: Evaluate the data set's corruptions, if the settings include that curve.
        trainer: `ipgl.training.train`, or a replacement of it, given all but the arguments above.
    """
    score = lookup("selection rule", SELECTION_RULES, selection).score
    batch = training.evaluation_batch_size
    outcome: TrainingOutcome = trainer(
        model,
        lambda context: build_method(method, context),
        dataset,
        training,
        evaluate=Validation(dataset, alignment, batch, score),
    )
    tested = run_test(
        model,
        dataset,
        evaluation,
        alignment,
        batch_size=batch,
        corruptions=corruptions,
        of_pairs=validation_metrics(outcome.history[-1]),
    )
    return outcome, tested


def completed_result(
    base: RunResult, outcome: TrainingOutcome, tested: TestedModel, dataset: Dataset, notes: tuple[str, ...]
) -> RunResult:
    """The result of a trial that was trained to its end and tested."""
    last = outcome.history[-1]
    return base.model_copy(
        update={
            "status": "completed",
            "score": last["score"],
            "validation": validation_metrics(last),
            "metrics": tested.metrics,
            "groups": tested.groups,
            "curves": tested.curves,
            "data_fingerprint": dataset.fingerprint,
            "test_fingerprint": tested.predictions.examples,
            "class_names": dataset.class_names,
            "attribute_names": dataset.attribute_names,
            "data_notes": notes,
            "steps": outcome.steps,
            "train_seconds": outcome.seconds,
            "finished_at": time.time(),
        }
    )
