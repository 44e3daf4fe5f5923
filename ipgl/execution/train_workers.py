"""A trial on several workers under Ray Train."""

from __future__ import annotations

import time
from typing import TypedDict

import torch
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from ipgl.config import TrialConfig
from ipgl.evaluation import RunResult
from ipgl.execution.ray_storage import ray_storage
from ipgl.execution.trial_function import RowReporter, TrialFunction, failure_of
from ipgl.trial.records import base_result
from ipgl.trial.run import run_trial


class _WorkerArguments(TypedDict):
    """What `TorchTrainer` passes to every worker."""

    config: TrialConfig
    function: TrialFunction


def fit_on_workers(config: TrialConfig, function: TrialFunction) -> RunResult:
    """Run the trial's loop on several workers; the calling process only waits.

    Raises:
        OSError: The storage failed.
    """
    resources = config.resources
    share: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus:
        share["GPU"] = resources.gpus
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config=_WorkerArguments(config=config, function=function),
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


def _worker_loop(arguments: _WorkerArguments) -> None:
    config, function = arguments["config"], arguments["function"]
    function.prepare()
    function.set_threads()
    if config.resources.gpus:
        torch.cuda.set_device(ray_train.torch.get_device())
    reporter = RowReporter(config.training.epochs, ray_train.report)
    run_trial(config, function.folder.trial(config.key), reporter)
