"""Trials led by Ray Tune: one process each, which is used again for the next trial, or several workers each."""

from __future__ import annotations

import os
import time
from typing import Protocol

from ray import tune
from ray.exceptions import RayError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.widgets.util import in_notebook

from ipgl.config import ResourceSettings, TrialConfig
from ipgl.config.ranges import Scalar
from ipgl.core.retry import is_permanent
from ipgl.evaluation import RunResult
from ipgl.execution.ray_storage import ray_storage
from ipgl.execution.recorder import TrialRecorder, is_node_loss
from ipgl.execution.trial_function import (
    ENDED,
    STORAGE_PAUSE_SECONDS,
    RowReporter,
    TrialFunction,
    TuneResult,
    last_row,
)
from ipgl.storage.study_dir import try_to_write
from ipgl.trial.run import run_trial

MOST_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
_LARGEST_QUEUE = 1000  # an autoscaler may have no limit


def run_tuner(
    function: TrialFunction,
    record: TrialRecorder,
    trials: int,
    at_once: int,
    *,
    searcher: Searcher | None = None,
    scheduler: TrialScheduler | None = None,
) -> None:
    """Run so many trials of one phase; some may be left without a result where nodes or processes were lost.

    Args:
        function: What the trials are.
        record: Receives what happens to each.
        trials: How many.
        at_once: How many of them at a time.
        searcher: Draws the parameters; None for final runs, and for a label without ranges.
        scheduler: Stops trials early; None for none.
    """
    resources = function.plan.config.resources
    # Unless told otherwise Tune asks for one node more at a time, and a cluster that grows would take for ever.
    os.environ[MOST_PENDING] = str(min(at_once, _LARGEST_QUEUE))
    listener = _Listener(function, record)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_run, function=function), _share(resources)),
        param_space={"final": tune.grid_search(list(range(trials)))} if function.finals else {},
        tune_config=tune.TuneConfig(
            num_samples=1 if function.finals else trials,
            search_alg=searcher,
            scheduler=scheduler,
            max_concurrent_trials=at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"{function.phase}-{function.label or 'all'}-{time.time_ns()}",
            **ray_storage(function.folder),
            verbose=0,
            # Tune's own for notebooks clears the cell's output when it is made, `verbose` or not; elsewhere Tune warns
            # of any that is passed.
            progress_reporter=_SilentReporter() if in_notebook() else None,
            # The recorder counts: a trial that has failed too often has a result, and its next start only reads it.
            failure_config=tune.FailureConfig(max_failures=-1),
            callbacks=[listener],
            stop=_StorageStopper(record),
        ),
    )
    try:
        tuner.fit()
    except RuntimeError as error:
        # Tune knows the loss of an actor by one class of exception alone; a process killed for memory has another.
        if not isinstance(error.__cause__, RayError):
            raise
        listener.lost_process(error.__cause__)


def _share(resources: ResourceSettings) -> dict[str, float]:
    """What the process that Tune starts takes of the cluster."""
    if resources.workers > 1:
        # A driver that asked for CPUs beside its workers could wait for them for ever; it sits on the head.
        return {"node:__internal_head__": 0.01}
    share = {"CPU": resources.cpus_per_worker}
    return share | {"GPU": resources.gpus} if resources.gpus else share


class _TuneTrial(Protocol):
    """What is read of Tune's trials."""

    trial_id: str
    config: dict[str, Scalar]

    def get_pickled_error(self) -> BaseException | None: ...

    def get_ray_actor_error(self) -> BaseException | None: ...


class _SilentReporter(tune.ProgressReporter):  # type: ignore[misc]
    """Reports nothing."""

    def should_report(self, trials: list[_TuneTrial], done: bool = False) -> bool:
        return False


class _Listener(tune.Callback):  # type: ignore[misc]
    """Turns Tune's events into the study's."""

    def __init__(self, function: TrialFunction, record: TrialRecorder) -> None:
        self._function, self._record = function, record
        self._configs: dict[str, TrialConfig] = {}
        self._running: dict[str, int | None] = {}  # trial id -> process id, once it has reported

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune pickles its callbacks into snapshots; a display and a tracker cannot go there

    def on_trial_start(
        self, iteration: int, trials: list[_TuneTrial], trial: _TuneTrial, **_: object
    ) -> None:
        self._running[trial.trial_id] = None
        self._record.began(self._config(trial))

    def on_trial_result(
        self, iteration: int, trials: list[_TuneTrial], trial: _TuneTrial, result: TuneResult, **_: object
    ) -> None:
        self._running[trial.trial_id] = result.get("pid")
        if not result.get(ENDED):
            self._record.reported(self._config(trial), result)

    def on_trial_complete(
        self, iteration: int, trials: list[_TuneTrial], trial: _TuneTrial, **_: object
    ) -> None:
        self._running.pop(trial.trial_id, None)
        self._record.completed(self._config(trial))

    def on_trial_recover(
        self, iteration: int, trials: list[_TuneTrial], trial: _TuneTrial, **_: object
    ) -> None:
        """A trial was lost, and Tune starts it again."""
        self._lost(trial)

    def on_trial_error(
        self, iteration: int, trials: list[_TuneTrial], trial: _TuneTrial, **_: object
    ) -> None:
        """A trial was lost before it had begun; unless it has failed too often, the next round of the study runs it."""
        self._lost(trial)

    def lost_process(self, error: BaseException) -> None:
        """Some process was lost in a way that ends Tune's run: charge the trial that ran in it, by its process id."""
        text = str(error)
        named = [trial for trial, pid in self._running.items() if pid is not None and f"pid={pid}" in text]
        for trial in named or list(self._running):
            self._record.may_try_again(self._configs[trial], error, charged=not is_node_loss(error))

    def _lost(self, trial: _TuneTrial) -> None:
        self._running.pop(trial.trial_id, None)
        try:
            error = trial.get_pickled_error() or trial.get_ray_actor_error()
        except Exception:  # Tune keeps errors on the study's storage, and has half of one where that is full
            error, self._record.refused = None, try_to_write(self._function.folder)
        self._record.may_try_again(self._config(trial), error, charged=not is_node_loss(error))

    def _config(self, trial: _TuneTrial) -> TrialConfig:
        if trial.trial_id not in self._configs:
            self._configs[trial.trial_id] = self._function.config(trial.config)
        return self._configs[trial.trial_id]


class _StorageStopper(tune.Stopper):  # type: ignore[misc]
    """Ends the run once the storage takes nothing any more."""

    def __init__(self, record: TrialRecorder) -> None:
        self._record: TrialRecorder | None = record

    def __getstate__(self) -> dict[str, object]:
        return {"_record": None}  # Tune pickles it into snapshots

    def __call__(self, trial_id: str, result: TuneResult) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._record is not None and self._record.refused is not None


def _run(parameters: dict[str, Scalar], function: TrialFunction) -> None:
    """Run one trial inside a Tune session."""
    function.load_imports()
    config = function.config(parameters)
    try:
        tune.report(last_row(config, _result(config, function)))
    except OSError as error:
        if not is_permanent(error):
            time.sleep(STORAGE_PAUSE_SECONDS)
        raise


def _result(config: TrialConfig, function: TrialFunction) -> RunResult:
    folder = function.folder.trial(config.key)
    existing = folder.read_result()
    if existing is not None:
        return existing
    if config.resources.workers > 1:
        from ipgl.execution.train_workers import fit_on_workers  # Ray Train takes a second to import

        return fit_on_workers(config, function)
    function.prepare()
    function.set_threads()
    return run_trial(config, folder, RowReporter(config.training.epochs, tune.report))
