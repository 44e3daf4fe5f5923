"""What runs on the cluster: a Tune function around `run_trial`, and the same function under Ray Train."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from ray import train as ray_train
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from ipgl.config import Phase, TrialConfig
from ipgl.evaluation import Failure, RunResult
from ipgl.study.folder import StudyFolder
from ipgl.study.imports import load_imports
from ipgl.study.plan import StudyPlan
from ipgl.study.ray_share import take_datasets
from ipgl.study.ray_storage import ray_storage
from ipgl.study.trial import base_result, run_trial

SCORE = "score"


@dataclass(frozen=True)
class TrialFunction:
    """The function that Tune calls for each trial of one phase.

    Attributes:
        plan: The study.
        folder: The study's folder, as seen from every node.
        phase: `search` draws hyperparameters for `label`; `final` runs the configurations in `finals`.
        finals: Key -> configuration of each final run.
        datasets: What `ipgl.study.ray_share.put_datasets` gave.
    """

    plan: StudyPlan
    folder: StudyFolder
    phase: Phase
    label: str = ""
    finals: tuple[TrialConfig, ...] = ()
    datasets: Mapping[str, Any] = field(default_factory=dict)

    def config(self, parameters: dict[str, Any]) -> TrialConfig:
        """The trial that Tune's parameters stand for."""
        if self.phase == "final":
            return self.finals[int(parameters["final"])]
        return self.plan.trial(self.label, parameters, "search", self.plan.config.search.seed)

    def __call__(self, parameters: dict[str, Any]) -> None:
        """Run a trial of several workers inside a Tune session."""
        self._load_imports()
        config = self.config(parameters)
        folder = self.folder.trial(config.key)
        result = folder.read_result() or _fit_on_workers(config, self)
        tune.report(last_row(config, result))

    def prepare(self) -> None:
        """Load what the study imports into this process, before `config` is asked, and the data that it shares."""
        self._load_imports()
        take_datasets(self.datasets)

    def _load_imports(self) -> None:
        if self.plan.config.imports:
            self.folder.fetch()
        load_imports(self.plan.config.imports, self.folder.path)


def last_row(config: TrialConfig, result: RunResult) -> dict[str, float]:
    """What Tune is told once the result is on storage, so that a scheduler that ends the trial on it finds it there.

    A failed trial scores 0, the least that any rule gives, so that the search learns to stay away.
    """
    score = 0.0 if result.status == "failed" else told(result.score)
    return {SCORE: score, "training_iteration": config.training.evaluations}


def told(score: float) -> float:
    """What searcher and scheduler are told: Optuna would wait for ever on a trial whose score is NaN."""
    return score if math.isfinite(score) else 0.0


class RowReporter:
    """Tells Tune every row but the last, counted from the run's beginning, not from the last restart."""

    def __init__(self, epochs: int, tell: Callable[[dict[str, float]], object]) -> None:
        """Tell `tell`, of a run of so many epochs."""
        self._epochs, self._tell = epochs, tell

    def report(self, row: dict[str, float]) -> None:
        """Pass on the score and which evaluation it is."""
        if row["epoch"] < self._epochs:
            self._tell({SCORE: told(row[SCORE]), "training_iteration": int(row["evaluation"])})


def _fit_on_workers(config: TrialConfig, function: TrialFunction) -> RunResult:
    """Run the trial's loop on several workers under Ray Train; this process only waits."""
    resources = config.resources
    share: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus:
        share["GPU"] = resources.gpus
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config={"config": config, "function": function},
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        scaling_config=ray_train.ScalingConfig(
            num_workers=resources.workers, use_gpu=bool(resources.gpus), resources_per_worker=share
        ),
        run_config=ray_train.RunConfig(
            name=config.key,
            **ray_storage(function.folder),
            callbacks=[TuneReportCallback()],
            failure_config=ray_train.FailureConfig(
                max_failures=resources.max_failures, controller_failure_limit=resources.max_failures
            ),
        ),
    )
    folder = function.folder.trial(config.key)
    started = time.time()
    try:
        trainer.fit()
    except ray_train.WorkerGroupError as error:
        # The workers were started again as often as allowed: Tune need not do that once more.
        cause = _first_failure(error)
        if isinstance(cause, OSError):
            raise cause from None
        base = base_result(config, started)
        folder.write_result(base.model_copy(update={"failure": failure_of(cause, str(error))}))
    return folder.require_result()


def _first_failure(error: ray_train.WorkerGroupError) -> BaseException:
    """What the worker of lowest rank failed of; the error itself if none says."""
    first = next((error.worker_failures[rank] for rank in sorted(error.worker_failures)), error)
    cause: BaseException = getattr(first, "_base_exc", first)
    return cause


def failure_of(cause: BaseException, traceback: str) -> Failure:
    """The record of a trial that could not make its own."""
    message = next((line for line in reversed(str(cause).splitlines()) if line.strip()), repr(cause))
    return Failure(kind=type(cause).__name__, message=message.strip(), traceback=traceback)


def _worker_loop(arguments: dict[str, Any]) -> None:
    function: TrialFunction = arguments["function"]
    config: TrialConfig = arguments["config"]
    function.prepare()
    torch.set_num_threads(max(1, int(config.resources.cpus_per_worker)))
    if config.resources.gpus:
        torch.cuda.set_device(ray_train.torch.get_device())
    reporter = RowReporter(config.training.epochs, ray_train.report)
    run_trial(config, function.folder.trial(config.key), reporter)


def quiet_environment() -> dict[str, str]:
    """Switches that keep Ray's own output out of the study's display."""
    return {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore"),
    }
