"""Trials on a Ray cluster: Tune with Optuna for the search, Tune for the final seeds.

Storage is the truth, not Tune's own snapshots: a resumed search is a new Tune run whose searcher and scheduler
are told what is on storage. So a trial that Tune's last snapshot missed is not lost, and successive halving
keeps its rungs (Tune's own restore loses them, ray#30838).
"""

from __future__ import annotations

import gc
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import ray
from ray._private.state import state
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from ipgl.config import TrialConfig
from ipgl.core.errors import ResourceError
from ipgl.data import derive_seed
from ipgl.evaluation import RunResult
from ipgl.evaluation.selection import LOWEST_SCORE
from ipgl.execution.events import Events
from ipgl.execution.loopback import choose_interface, guard_token
from ipgl.execution.packing import Workload, pack_size, workload
from ipgl.execution.pool import Places, Pool, PooledTrials
from ipgl.execution.ray_storage import remove_ray_storage
from ipgl.execution.recorder import TrialRecord
from ipgl.execution.shared_data import put_datasets
from ipgl.execution.trial_function import SCORE, TrialFunction, quiet_environment, told
from ipgl.plan.study_plan import StudyPlan
from ipgl.search import distributions, make_sampler
from ipgl.storage.study_folder import StudyFolder


@dataclass
class RayEngine:
    """Runs the phases of one study; use as a context manager, so that Ray always ends.

    Attributes:
        plan: The study.
        folder: Where it is kept.
        events: Told when trials begin, report and end.
        address: Ray address; None takes `$RAY_ADDRESS`, or starts Ray on this machine.
    """

    plan: StudyPlan
    folder: StudyFolder
    events: Events
    address: str | None = None
    _pool: Pool | None = field(default=None, init=False)
    _datasets: dict[str, Any] = field(default_factory=dict, init=False)
    _workloads: dict[str, Workload] = field(default_factory=dict, init=False)

    def __enter__(self) -> RayEngine:
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        for name, value in quiet_environment().items():
            os.environ.setdefault(name, value)
        choose_interface(address)
        for name in ("ray.tune", "ray.train", "ray.tune.search.optuna"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            # Tune needs the dashboard: without it a trial that the scheduler stops never gives its resources back.
            dashboard = {
                "include_dashboard": self.plan.config.resources.workers > 1,
                "dashboard_host": "127.0.0.1",
            }
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(dashboard if address == "local" else {}),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ResourceError(
                f"cannot use Ray at {address!r}: {error}; start a cluster (`ray start --head`), correct the "
                "address, or leave it out to run on this machine"
            ) from None
        guard_token()
        return self

    def __exit__(self, *_: object) -> None:
        self._datasets.clear()
        if self._pool:
            self._pool.close()
        _shut_down()
        remove_ray_storage(self.folder)

    @property
    def concurrency(self) -> int:
        """Trials at once, each in a process of its own; errors as `_slots`."""
        slots = self._slots
        return min(slots, self.plan.config.search.concurrency or slots)

    @property
    def _slots(self) -> int:
        """How many trials the cluster has room for.

        Raises:
            ResourceError: The cluster cannot hold a single one.
        """
        resources, cluster = self.plan.config.resources, _attainable_resources()
        needs = {
            "CPU": resources.workers * resources.cpus_per_worker,
            "GPU": resources.workers * resources.gpus,
        }
        # Ray counts in ten-thousandths; binary fractions alone would give 2 // 0.1 = 19.
        fits = {name: int(cluster.get(name, 0) / need + 1e-6) for name, need in needs.items() if need}
        short = [name for name, count in fits.items() if not count]
        if short:
            name = short[0]
            raise ResourceError(
                f"one trial needs {needs[name]:g} {name}s ({resources.workers} workers), but the cluster has, or may "
                f"grow to, {cluster.get(name, 0):g}; lower resources.workers or the share of each worker, or use a "
                "larger one"
            )
        return min(fits.values())

    def search(self, label: str) -> None:
        """Run what is left of a label's search; every trial is on storage afterwards."""
        space = self.plan.method(label).space
        past = _Past.read(self.folder, label)
        left = self.plan.search_trials(label) - len(past.ended)
        if left <= 0:
            return
        search = self.plan.config.search
        scheduler = self._scheduler(past)
        searcher = None
        if space:
            tried = [run.hyperparameters for run in past.ended]
            first = [point for point in past.begun if point not in tried]
            first += [point for point in self.plan.method(label).start if point not in (*tried, *first)]
            # Resumed or not, the draws depend on seed and history alone; the same seed again would repeat them.
            seed = search.seed if not past.ended else derive_seed(search.seed, label, len(past.ended)) % 2**32
            searcher = OptunaSearch(
                space=distributions(space),
                metric=SCORE,
                mode="max",
                points_to_evaluate=[dict(point) for point in first] or None,
                sampler=make_sampler(search.sampler, seed, search.startup_trials),
            )
            for run in past.ended:
                value = LOWEST_SCORE if run.status == "failed" else told(run.score)
                searcher.add_evaluated_point(run.hyperparameters, value)
        values = {key: found.probes[0] for key, found in space.items()}
        probe = self.plan.trial(label, values, "search", search.seed)
        places = self._places(probe, left, searcher is not None)
        varies = any(key.startswith("dataset.") for key in space)
        function = TrialFunction(
            self.plan.for_trials(),
            self.folder,
            "search",
            label=label,
            datasets={} if varies else self._shared([probe]),
        )
        self._run(function, places, left, searcher=searcher, scheduler=scheduler)

    def final(self, configs: Sequence[TrialConfig]) -> None:
        """Run these configurations, all final runs or all component runs."""
        if configs:
            places = self._places(configs[0], len(configs), False)
            function = TrialFunction(
                self.plan.for_trials(),
                self.folder,
                configs[0].phase,
                finals=tuple(configs),
                datasets=self._shared(configs),
            )
            self._run(function, places, len(configs))

    def _shared(self, configs: Sequence[TrialConfig]) -> dict[str, Any]:
        """What these trials read, as far as they share it; it stays in the object store while the study lasts."""
        found = put_datasets(configs, self._datasets)
        self._datasets |= found
        return found

    def _places(self, config: TrialConfig, trials: int, learns: bool) -> Places:
        """Where so many trials like this one run; `learns` if later ones are drawn by what earlier ones scored."""
        search, slots = self.plan.config.search, self._slots
        most = search.concurrency or math.inf
        size = 1
        if search.pack != 1 and trials > 1:
            rounds = learns and search.sampler == "tpe"
            # Of one label's trials the first speaks for all; the data may be away from this process afterwards.
            if config.label not in self._workloads:
                self._workloads[config.label] = workload(config)
            size = pack_size(search.pack, self._workloads[config.label], trials, min(slots, trials), rounds)
        at_once = int(min(slots * size, trials, most))
        processes = min(slots, at_once)
        return Places(at_once, processes, math.ceil(at_once / processes))

    def _scheduler(self, past: _Past) -> TrialScheduler | None:
        settings = self.plan.config.search.scheduler
        if settings.name == "none":
            return None
        scheduler = ASHAScheduler(
            time_attr="training_iteration",
            metric=SCORE,
            mode="max",
            max_t=max(self.plan.config.training.evaluations, settings.grace_evaluations + 1),
            grace_period=settings.grace_evaluations,
            reduction_factor=settings.reduction_factor,
        )
        for key, rows in past.histories.items():
            trial = SimpleNamespace(trial_id=key)
            scheduler.on_trial_add(None, trial)
            for row in rows:
                result = {SCORE: told(row[SCORE]), "training_iteration": int(row["evaluation"])}
                scheduler.on_trial_result(None, trial, result)
        return scheduler

    def _run(
        self,
        function: TrialFunction,
        places: Places,
        trials: int,
        *,
        searcher: OptunaSearch | None = None,
        scheduler: TrialScheduler | None = None,
    ) -> None:
        record = TrialRecord(self.folder, self.events)
        try:
            if self.plan.config.resources.workers > 1:
                from ipgl.execution.multi_worker import run_tuner  # Ray Train takes a second to import

                run_tuner(function, record, trials, places.at_once, searcher=searcher, scheduler=scheduler)
            else:
                self._pool = self._pool or Pool(self.plan.config.resources)
                given = [{"final": number} if function.finals else {} for number in range(trials)]
                PooledTrials(
                    self._pool, function, places, record, given, searcher=searcher, scheduler=scheduler
                ).run()
        except Exception:
            record.refused = record.refused or self.folder.refusal()
            if record.refused is None:
                raise
        if record.refused is not None:
            raise self.folder.unwritable(record.refused)


def _attainable_resources() -> dict[str, float]:
    """What the cluster has now, or may grow to if an autoscaler has told its limits."""
    now = ray.cluster_resources()
    limits = state.get_max_resources_from_cluster_config() or {}
    return {name: max(now.get(name, 0.0), float(limits.get(name, 0))) for name in now.keys() | limits.keys()}


def _shut_down() -> None:
    """Shut Ray down without letting the garbage collector near it.

    Ray's core releases the interpreter's lock while it shuts down. If a thread of ours collects garbage just then, and
    a reference to one of Ray's objects is in it, the core ends the whole process with status 1.
    """
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()


@dataclass(frozen=True)
class _Past:
    """What storage knows of a label's search."""

    ended: list[RunResult]
    begun: list[dict[str, Any]]
    histories: dict[str, list[dict[str, float]]]

    @classmethod
    def read(cls, folder: StudyFolder, label: str) -> _Past:
        ended: list[RunResult] = []
        begun: list[dict[str, Any]] = []
        histories: dict[str, list[dict[str, float]]] = {}
        for trial in folder.trials():
            start = trial.read_start()
            if start is None or start.label != label or start.phase != "search":
                continue
            result = trial.read_result()
            if result is None:
                begun.append(start.hyperparameters)
            else:
                ended.append(result)
                histories[result.trial] = trial.read_history()
        return cls(ended, begun, histories)
