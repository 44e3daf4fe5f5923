"""Trials on a Ray cluster: Ray Tune leads those that train alone, and `ipgl.execution.pool` those that are packed."""

from __future__ import annotations

import gc
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import ray
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ipgl.config import TrialConfig
from ipgl.config.ranges import Scalar
from ipgl.core.errors import ResourceError
from ipgl.core.private_apis import LOOPBACK_SWITCH
from ipgl.execution.capacity import trial_slots
from ipgl.execution.events import Events
from ipgl.execution.loopback import choose_interface, guard_token
from ipgl.execution.packing import Workload, pack_size, workload
from ipgl.execution.pool import PackLayout, Pool, PooledTrials
from ipgl.execution.ray_storage import remove_ray_storage
from ipgl.execution.recorder import TrialRecorder
from ipgl.execution.search_history import SearchHistory, make_scheduler, make_searcher
from ipgl.execution.shared_data import put_datasets
from ipgl.execution.trial_function import TrialFunction, quiet_environment
from ipgl.execution.tune_runner import MOST_PENDING, run_tuner
from ipgl.plan.study_plan import StudyPlan
from ipgl.storage.study_dir import StudyFolder, try_to_write, write_error

# Rounds in a row that end no trial and charge none: nodes that are lost as soon as they are there.
_MOST_IDLE_ROUNDS = 5
# What the engine sets in this process's environment, and puts back.
_VARIABLES = (*quiet_environment(), MOST_PENDING, LOOPBACK_SWITCH)


@dataclass
class RayEngine:
    """Runs the phases of one study; use as a context manager, so that Ray always ends.

    Attributes:
        plan: The study.
        folder: Where it is kept.
        events: Receives when trials begin, report and end.
        address: Ray address; None takes `$RAY_ADDRESS`, or starts Ray on this machine.
        packing: How each label's search trials were run, for the report: `erm: packs of 3; jtt: one by one`.
    """

    plan: StudyPlan
    folder: StudyFolder
    events: Events
    address: str | None = None
    _packing: dict[str, str] = field(default_factory=dict, init=False)
    _pool: Pool | None = field(default=None, init=False)
    _datasets: dict[str, object] = field(default_factory=dict, init=False)
    _workloads: dict[str, Workload] = field(default_factory=dict, init=False)
    _environment: dict[str, str | None] = field(default_factory=dict, init=False)

    def __enter__(self) -> RayEngine:
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        self._environment = {name: os.environ.get(name) for name in _VARIABLES}
        for name, value in quiet_environment().items():
            os.environ.setdefault(name, value)
        choose_interface(address)
        for name in ("ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            # Train needs the dashboard: without it a trial that the scheduler stops never gives its resources back.
            local = {
                "include_dashboard": self.plan.config.resources.workers > 1,
                "dashboard_host": "127.0.0.1",
            }
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(local if address == "local" else {}),
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
        self._close_pool()
        _shut_down()
        remove_ray_storage(self.folder)
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _close_pool(self) -> None:
        if self._pool:
            self._pool.close()
        self._pool = None

    @property
    def concurrency(self) -> int:
        """Trials at once, each in a process of its own; errors as `trial_slots`."""
        slots = trial_slots(self.plan.config.resources)
        return min(slots, self.plan.config.search.concurrency or slots)

    @property
    def packing(self) -> str:
        return "; ".join(f"{label}: {how}" for label, how in self._packing.items())

    def search(self, label: str) -> None:
        """Run what is left of a label's search; every trial is on storage afterwards.

        Raises:
            ResourceError: The cluster holds no trial, or loses every process.
            StudyStateError: The storage takes nothing any more.
        """
        space = self.plan.method(label).space
        values = {key: found.probes[0] for key, found in space.items()}
        probe = self.plan.trial(label, values, "search", self.plan.config.search.seed)
        record = self._recorder()
        varies = any(key.startswith("dataset.") for key in space)
        rounds = _Rounds(record)
        history = SearchHistory.read(self.folder, label)
        left = self.plan.search_trials(label) - len(history.ended)
        while left > 0:
            rounds.begin(len(history.ended))
            layout = self._layout(probe, left, later_learn=bool(space))
            # Of the first round: those after it run the few trials that were lost.
            self._packing.setdefault(label, f"packs of {layout.size}" if layout.size > 1 else "one by one")
            function = TrialFunction(
                self.plan.for_trials(),
                self.folder,
                "search",
                label=label,
                datasets={} if varies else self._shared([probe]),
            )
            searcher = make_searcher(self.plan, label, history)
            self._run(function, layout, left, record, searcher, make_scheduler(self.plan, history))
            # A trial that was lost before it had noted its beginning is on no storage.
            history = SearchHistory.read(self.folder, label).with_lost(record.lost.values())
            left = len(record.lost)

    def final(self, configs: Sequence[TrialConfig]) -> None:
        """Run these configurations, all final runs or all component runs; errors as `search`."""
        record = self._recorder()
        rounds = _Rounds(record)
        while True:
            left = [config for config in configs if self.folder.trial(config.key).read_result() is None]
            if not left:
                return
            rounds.begin(len(configs) - len(left))
            layout = self._layout(left[0], len(left), later_learn=False)
            function = TrialFunction(
                self.plan.for_trials(),
                self.folder,
                left[0].phase,
                finals=tuple(left),
                datasets=self._shared(left),
            )
            self._run(function, layout, len(left), record)

    def _recorder(self) -> TrialRecorder:
        return TrialRecorder(self.folder, self.events)

    def _shared(self, configs: Sequence[TrialConfig]) -> dict[str, object]:
        """What these trials read, as far as they share it; it stays in the object store while the study lasts."""
        found = put_datasets(configs, self._datasets)
        self._datasets |= found
        return found

    def _layout(self, config: TrialConfig, trials: int, *, later_learn: bool) -> PackLayout:
        """How so many trials like this one run.

        Args:
            config: One of them.
            trials: How many.
            later_learn: Whether later ones are drawn by what earlier ones scored.
        """
        search, slots = self.plan.config.search, trial_slots(self.plan.config.resources)
        most = search.concurrency or math.inf
        size = 1
        if search.pack != 1 and trials > 1:
            rounds = later_learn and search.sampler == "tpe"
            # Of one label's trials the first speaks for all; the data may be away from this process afterwards.
            if config.label not in self._workloads:
                self._workloads[config.label] = workload(config)
            size = pack_size(search.pack, self._workloads[config.label], trials, min(slots, trials), rounds)
        at_once = int(min(slots * size, trials, most))
        processes = min(slots, at_once)
        return PackLayout(at_once, processes, math.ceil(at_once / processes))

    def _run(
        self,
        function: TrialFunction,
        layout: PackLayout,
        trials: int,
        record: TrialRecorder,
        searcher: Searcher | None = None,
        scheduler: TrialScheduler | None = None,
    ) -> None:
        """Run trials of one phase, packed or led by Tune; those that were lost with a node may be left."""
        try:
            if layout.size == 1:
                self._close_pool()  # its processes hold the CPUs that Tune's would wait for
                run_tuner(function, record, trials, layout.at_once, searcher=searcher, scheduler=scheduler)
            else:
                self._pool = self._pool or Pool(self.plan.config.resources)
                given: list[dict[str, Scalar]] = [
                    {"final": number} if function.finals else {} for number in range(trials)
                ]
                PooledTrials(
                    self._pool, function, layout, record, given, searcher=searcher, scheduler=scheduler
                ).run()
        except Exception:
            record.refused = record.refused or try_to_write(self.folder)
            if record.refused is None:
                raise
        if record.refused is not None:
            raise write_error(self.folder, record.refused)


class _Rounds:
    """Counts rounds that brought nothing, so that a phase whose processes are lost again and again ends."""

    def __init__(self, record: TrialRecorder) -> None:
        self._record = record
        self._seen: tuple[int, int] | None = None
        self._idle = 0

    def begin(self, ended: int) -> None:
        """Begin a round after so many trials have ended.

        Raises:
            ResourceError: Too many rounds in a row have ended none.
        """
        now = ended, self._record.failures.total()
        self._idle = self._idle + 1 if now == self._seen else 0
        self._seen = now
        if self._idle > _MOST_IDLE_ROUNDS:
            raise ResourceError(
                f"the cluster has lost every process of the study's trials {self._idle} times in a row before any "
                "could end; `ipgl doctor` looks at every node, and the study can be resumed"
            )


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
