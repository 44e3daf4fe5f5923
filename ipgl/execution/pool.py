"""Processes that train trials, for all phases of a study, and the loop that leads the trials of one phase.

Tune's own loop gives every trial an actor, and every search new ones. Starting an actor takes longer than many a trial
trains, and no two trials can train as one in it. So here the actors stay, take trials as they come, and pack them; each
trial is still one to Tune's searcher and scheduler, to storage and to the tracker.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ipgl.config import ResourceSettings
from ipgl.core.errors import ResourceError
from ipgl.core.retry import lasting
from ipgl.execution.pack_actor import Packer
from ipgl.execution.pack_messages import Event, Orders
from ipgl.execution.recorder import TrialRecord
from ipgl.execution.trial_function import TrialFunction

_STORAGE_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_MOST_STILLBORN = 10


@dataclass(frozen=True)
class Places:
    """Trials at once, the processes that train them, and how many trials each takes."""

    at_once: int
    processes: int
    size: int = 1


@dataclass
class _Trial:
    number: int
    parameters: dict[str, Any]
    failures: int = 0
    not_before: float = 0.0

    @property
    def handle(self) -> Any:
        """All that a scheduler of Tune's asks of a trial."""
        return SimpleNamespace(trial_id=str(self.number))


@dataclass(eq=False)
class _Process:
    """An actor, the trials in it, and what it is to be told next.

    Attributes:
        call: The answer that is waited for; None if nothing has been asked.
        ready: Whether it has ever answered: on a cluster that grows, or has lost a node, an actor may wait for ever.
        stillborn: Actors of it in a row that died before they answered.
    """

    actor: Any
    call: Any = None
    ready: bool = False
    stillborn: int = 0
    trials: dict[int, _Trial] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)


class Pool:
    """The processes of a study; `close` ends them."""

    def __init__(self, resources: ResourceSettings) -> None:
        """Begin without processes; each will take what `resources` says of one worker."""
        self._share = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus}
        self._processes: list[_Process] = []
        self.numbers = count()  # of trials, over all phases

    def processes(self, wanted: int, function: TrialFunction) -> list[_Process]:
        """So many processes, whose next trials are those of `function`."""
        while len(self._processes) < wanted:
            self._processes.append(_Process(self._actor()))
        chosen = self._processes[:wanted]
        for process in chosen:
            process.call = process.actor.begin.remote(function)
        return chosen

    def replace(self, process: _Process, function: TrialFunction) -> None:
        """Give a process that has died another actor."""
        process.actor, process.ready, process.orders = self._actor(), False, Orders()
        process.call = process.actor.begin.remote(function)

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for process in self._processes:
            ray.kill(process.actor)
        self._processes.clear()

    def _actor(self) -> Any:
        return ray.remote(Packer).options(**self._share).remote()


class PooledTrials:
    """Runs so many trials of one phase.

    Args:
        pool: Whose processes train.
        function: What the trials are.
        places: How they are packed.
        record: Told what becomes of each.
        given: The trials' parameters; those that a searcher draws are empty.
        searcher: Tune's.
        scheduler: Tune's.
    """

    def __init__(
        self,
        pool: Pool,
        function: TrialFunction,
        places: Places,
        record: TrialRecord,
        given: Sequence[dict[str, Any]],
        *,
        searcher: Searcher | None = None,
        scheduler: TrialScheduler | None = None,
    ) -> None:
        self._pool, self._function, self._places, self._record = pool, function, places, record
        self._left, self._searcher, self._scheduler = deque(given), searcher, scheduler
        self._again: deque[_Trial] = deque()
        self._processes: list[_Process] = []

    def run(self) -> None:
        """Run them all, or until the storage takes nothing any more.

        Raises:
            ResourceError: The cluster starts no process that lives.
        """
        self._processes = self._pool.processes(self._places.processes, self._function)
        while self._record.refused is None:
            self._fill()
            for process in self._processes:
                if process.trials and process.call is None:
                    process.call = process.actor.exchange.remote(process.orders)
                    process.orders = Orders()
            if not (self._again or self._left or any(process.trials for process in self._processes)):
                return
            calls = {process.call: process for process in self._processes if process.call is not None}
            if not calls:  # the only trials left wait for their time
                time.sleep(_LOOK_SECONDS)
                continue
            answers, _ = ray.wait(list(calls), timeout=_LOOK_SECONDS if self._again else None)
            for answer in answers:
                calls[answer].call = None
                self._hear(calls[answer], answer)

    def _fill(self) -> None:
        """Give every free place a trial, the emptiest process first."""
        ready = [process for process in self._processes if process.ready]
        while ready:
            process = min(ready, key=lambda process: len(process.trials))
            busy = sum(len(process.trials) for process in self._processes)
            if busy >= self._places.at_once or len(process.trials) >= self._places.size:
                return
            trial = self._next()
            if trial is None:
                return
            process.trials[trial.number] = trial
            process.orders.submit.append((trial.number, trial.parameters))
            self._record.began(self._function.config(trial.parameters))

    def _next(self) -> _Trial | None:
        now = time.monotonic()
        trial = next((trial for trial in self._again if trial.not_before <= now), None)
        if trial:
            self._again.remove(trial)
            return trial
        if not self._left:
            return None
        parameters, number = self._left.popleft(), next(self._pool.numbers)
        if self._searcher:
            parameters = self._searcher.suggest(str(number))
        trial = _Trial(number, parameters)
        if self._scheduler:
            self._scheduler.on_trial_add(None, trial.handle)
        return trial

    def _hear(self, process: _Process, answer: Any) -> None:
        """What one process's trials have to say, or that it died with all of them."""
        try:
            events: list[Event] = ray.get(answer)
        except RayActorError as error:
            process.stillborn = 0 if process.ready else process.stillborn + 1
            if process.stillborn > _MOST_STILLBORN:
                raise ResourceError(
                    f"{process.stillborn} processes in a row died on the cluster before they could take a trial; "
                    f"`ipgl doctor` looks at every node. The last one: {error}"
                ) from None
            lost, process.trials = list(process.trials.values()), {}
            self._pool.replace(process, self._function)
            for trial in lost:
                self._failed(trial, error)
            return
        process.ready = True
        for event in events:
            if event.trial not in process.trials:
                continue  # it was stopped
            if event.kind == "row":
                self._judge(process, event)
                continue
            trial = process.trials.pop(event.trial)
            if event.kind == "end":
                self._completed(trial, event.content)
            else:
                self._failed(trial, event.content)

    def _judge(self, process: _Process, event: Event) -> None:
        trial, row = process.trials[event.trial], event.content
        self._record.reported(self._function.config(trial.parameters), row)
        if self._searcher:
            self._searcher.on_trial_result(str(trial.number), row)
        verdict = self._scheduler.on_trial_result(None, trial.handle, row) if self._scheduler else None
        if verdict == TrialScheduler.STOP:
            process.orders.stop.append(trial.number)
            del process.trials[trial.number]
            self._completed(trial, row)
        else:
            process.orders.proceed.append(trial.number)

    def _completed(self, trial: _Trial, row: dict[str, float]) -> None:
        if self._scheduler:
            self._scheduler.on_trial_complete(None, trial.handle, row)
        if self._searcher:
            self._searcher.on_trial_complete(str(trial.number), row)
        self._record.completed(self._function.config(trial.parameters))

    def _failed(self, trial: _Trial, error: Exception) -> None:
        trial.failures += 1
        config = self._function.config(trial.parameters)
        if trial.failures <= config.resources.max_failures and not lasting(error):
            # Storage that is away comes back sooner or later; a process is there again at once.
            pause = _STORAGE_PAUSE_SECONDS * trial.failures if isinstance(error, OSError) else 0.0
            trial.not_before = time.monotonic() + pause
            self._again.append(trial)
            return
        if self._searcher:
            self._searcher.on_trial_complete(str(trial.number), error=True)
        self._record.failed(config, error)
