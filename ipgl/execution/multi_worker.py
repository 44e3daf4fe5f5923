"""Trials with several workers each: Tune leads them, Train runs them."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from ray import train as ray_train
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ipgl.config import TrialConfig
from ipgl.evaluation import RunResult
from ipgl.execution.ray_storage import ray_storage
from ipgl.execution.recorder import TrialRecord
from ipgl.execution.trial_function import SCORE, RowReporter, TrialFunction, failure_of, last_row
from ipgl.storage.study_folder import StudyFolder
from ipgl.trial.run import base_result, run_trial

_MOST_PENDING = 1000  # an autoscaler may have no limit


def run_tuner(
    function: TrialFunction,
    record: TrialRecord,
    trials: int,
    at_once: int,
    *,
    searcher: Searcher | None = None,
    scheduler: TrialScheduler | None = None,
) -> None:
    """Run so many trials of one phase; arguments as for `ipgl.execution.pool.PooledTrials`."""
    # A driver that asked for CPUs beside its workers could wait for them for ever; it sits on the head.
    share = {"node:__internal_head__": 0.01}

    def trial_function(parameters: dict[str, Any]) -> None:
        _run(function, parameters)

    tuner = tune.Tuner(
        tune.with_resources(trial_function, share),
        param_space={"final": tune.grid_search(list(range(trials)))} if function.finals else {},
        tune_config=tune.TuneConfig(
            num_samples=1 if function.finals else trials,
            metric=None if searcher or scheduler else SCORE,
            mode=None if searcher or scheduler else "max",
            search_alg=searcher,
            scheduler=scheduler,
            max_concurrent_trials=at_once,
        ),
        run_config=tune.RunConfig(
            name=f"{function.phase}-{function.label or 'all'}-{time.time_ns()}",
            **ray_storage(function.folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=function.plan.config.resources.max_failures),
            callbacks=[_Listener(function, function.folder, record)],
            stop=_StorageStopper(record),
        ),
    )
    # Unless told otherwise Tune asks for one node more at a time, and a cluster that grows would take for ever.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(min(at_once, _MOST_PENDING))
    tuner.fit()


class _Listener(tune.Callback):  # type: ignore[misc]
    """Turns Tune's events into the study's."""

    def __init__(self, function: TrialFunction, folder: StudyFolder, record: TrialRecord) -> None:
        self._function, self._folder, self._record = function, folder, record

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into snapshots; a display and a tracker cannot go there

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._record.began(self._config(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self._record.reported(self._config(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._record.completed(self._config(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        try:
            error = trial.get_pickled_error() or trial.get_ray_actor_error()
        except Exception:  # Tune keeps errors on the study's storage, and has half of one where that is full
            error, self._record.refused = None, self._folder.refusal()
        self._record.failed(self._config(trial), error)

    def _config(self, trial: Any) -> TrialConfig:
        return self._function.config(trial.config)


class _StorageStopper(tune.Stopper):  # type: ignore[misc]
    """Ends the run once the storage takes nothing any more."""

    def __init__(self, record: TrialRecord) -> None:
        self._record: TrialRecord | None = record

    def __getstate__(self) -> dict[str, Any]:
        return {"_record": None}  # Tune pickles it into snapshots

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._record is not None and self._record.refused is not None


def _run(function: TrialFunction, parameters: dict[str, Any]) -> None:
    """Run one trial inside a Tune session."""
    function.load_imports()
    config = function.config(parameters)
    folder = function.folder.trial(config.key)
    result = folder.read_result() or _fit_on_workers(config, function)
    tune.report(last_row(config, result))


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


def _worker_loop(arguments: dict[str, Any]) -> None:
    function: TrialFunction = arguments["function"]
    config: TrialConfig = arguments["config"]
    function.prepare()
    torch.set_num_threads(max(1, int(config.resources.cpus_per_worker)))
    if config.resources.gpus:
        torch.cuda.set_device(ray_train.torch.get_device())
    reporter = RowReporter(config.training.epochs, ray_train.report)
    run_trial(config, function.folder.trial(config.key), reporter)
