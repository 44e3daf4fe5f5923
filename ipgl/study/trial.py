"""One trial: a pure function from a configuration to a result. Ray, a notebook and a test call this same function."""

from __future__ import annotations

import platform
import time
import traceback
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ipgl import __version__
from ipgl.config import Component, TrialConfig, config_hash
from ipgl.data import DATASETS, Dataset, aligned_attribute, derive_seed
from ipgl.errors import IpglError
from ipgl.evaluation import (
    SELECTION_RULES,
    Failure,
    RunResult,
    area_under_curve,
    group_metrics,
    group_results,
    mixture_curve,
    pair_metrics,
    predict_logits,
    prediction_metrics,
)
from ipgl.files import write_atomically
from ipgl.methods import METHODS, Toolbox
from ipgl.methods.base import Method
from ipgl.models import MODELS, Classifier
from ipgl.registry import lookup
from ipgl.study.folder import TrialFolder
from ipgl.training import Collective, NonFiniteError, Reporter, TrainingOutcome, choose_device, place, train


def build_dataset(component: Component) -> Dataset:
    """Build the data set that a component names, from its complete settings."""
    entry = lookup("dataset", DATASETS, component.name)
    return entry.build(entry.settings.model_validate(component.settings))


def build_model(component: Component, dataset: Dataset, seed: int) -> Classifier:
    """Build the model with initial weights that depend on `seed` alone."""
    entry = lookup("model", MODELS, component.name)
    torch.manual_seed(derive_seed(seed, "weights"))
    return entry.build(
        entry.settings.model_validate(component.settings), dataset.input_shape, dataset.num_classes
    )


def build_method(component: Component, toolbox: Toolbox) -> Method:
    """Build the method with what the trainer lends it."""
    entry = lookup("method", METHODS, component.name)
    return entry.build(entry.settings.model_validate(component.settings), toolbox)


def run_trial(config: TrialConfig, folder: TrialFolder, reporter: Reporter) -> RunResult:
    """Train, test once, and leave the result in `folder`; a trial that has a result already just returns it.

    A run that fails for a reason of its own (not finite, wrong shapes, ...) is a result with status `failed`.
    Only the end of the process, or what the reporter raises, leaves the folder without a result; calling
    again then goes on from the last checkpoint.

    Args:
        config: Everything that the result depends on.
        folder: Where checkpoint, history, model, predictions and result are kept.
        reporter: Receives a row after each evaluation.
    """
    existing = folder.read_result()
    if existing:
        return existing
    started = time.time()
    folder.write_start(config)
    recorder = _Recorder(folder, reporter)
    base = RunResult(
        study=config.study,
        label=config.label,
        method=config.method.name,
        phase=config.phase,
        trial=config.key,
        seed=config.seed,
        status="failed",
        hyperparameters=config.hyperparameters,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config.model_dump(mode="json")),
        started_at=started,
        environment=trial_environment(),
    )
    try:
        result = _train_and_test(config, folder, recorder, base)
    except _StoppedByReporterError as stop:
        raise stop.reason from None
    except Exception as error:
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
    if Collective().rank == 0:
        folder.write_result(result)
        folder.checkpoint.unlink(missing_ok=True)
    return result


class _StoppedByReporterError(Exception):
    """Carries what the reporter raised past the handler that records failures."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class _Recorder:
    """Keeps the history on storage, then passes each row on."""

    def __init__(self, folder: TrialFolder, reporter: Reporter) -> None:
        self._folder, self._reporter = folder, reporter
        self._rows: list[dict[str, float]] = []
        self._writes = Collective().rank == 0

    def report(self, row: dict[str, float]) -> None:
        earlier = self._rows or self._folder.read_history()
        self._rows = [*(old for old in earlier if old["step"] < row["step"]), row]
        if self._writes:
            self._folder.write_history(self._rows)
        try:
            self._reporter.report(row)
        except Exception as error:
            raise _StoppedByReporterError(error) from None


def _train_and_test(
    config: TrialConfig, folder: TrialFolder, recorder: _Recorder, base: RunResult
) -> RunResult:
    settings, evaluation = config.training, config.evaluation
    device = choose_device(settings)
    dataset = place(_cached_dataset(config.dataset.model_dump_json()), device)
    model = build_model(config.model, dataset, config.seed).to(device)
    score = lookup("selection rule", SELECTION_RULES, config.selection)
    batch = settings.evaluation_batch_size

    def evaluate(model: Classifier) -> dict[str, float]:
        logits = predict_logits(model, dataset.validation.x, batch)
        metrics = prediction_metrics(logits, dataset.validation.y.to(device))
        pairs = dataset.held_out_pairs
        metrics |= pair_metrics(predict_logits(model, pairs.a, batch), predict_logits(model, pairs.b, batch))
        return {f"validation/{name}": value for name, value in metrics.items()} | {"score": score(metrics)}

    outcome: TrainingOutcome = train(
        model,
        lambda toolbox: build_method(config.method, toolbox),
        dataset,
        settings,
        seed=config.seed,
        evaluate=evaluate,
        reporter=recorder,
        checkpoint_path=folder.checkpoint,
        config_hash=base.config_hash,
    )
    last = outcome.history[-1]

    test = dataset.test
    prediction = predict_logits(model, test.x, batch).argmax(dim=1).to(test.y.device)
    aligned = aligned_attribute(
        dataset.train.y, dataset.train.attribute, dataset.num_classes, dataset.num_attributes
    )
    groups = group_results(prediction, test.y, test.attribute, aligned, dataset.num_attributes)
    curve = mixture_curve(
        groups, evaluation.severities, confidence=evaluation.confidence, resamples=evaluation.resamples
    )
    metrics = group_metrics(groups) | {"area_mixture": area_under_curve(curve)}
    if Collective().rank == 0:
        folder.write_predictions(
            *(t.cpu().numpy().astype(np.int32) for t in (prediction, test.y, test.attribute))
        )
        write_atomically(folder.model, lambda file: torch.save(model.state_dict(), file))
    return base.model_copy(
        update={
            "status": "completed",
            "score": last["score"],
            "validation": {
                name.removeprefix("validation/"): value
                for name, value in last.items()
                if name.startswith("validation/")
            },
            "metrics": metrics,
            "groups": groups,
            "curves": {"mixture": curve},
            "data_fingerprint": dataset.fingerprint,
            "steps": outcome.steps,
            "train_seconds": outcome.seconds,
            "finished_at": time.time(),
        }
    )


@lru_cache(maxsize=2)
def _cached_dataset(component: str) -> Dataset:
    # A worker process runs many trials on one data set: building it once is most of a small trial's time.
    return build_dataset(Component.model_validate_json(component))


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
    config = TrialConfig.model_validate(trial.require_result().config)
    model = build_model(config.model, build_dataset(config.dataset), config.seed)
    model.load_state_dict(torch.load(trial.model, weights_only=True, map_location="cpu"))
    return model.eval()
