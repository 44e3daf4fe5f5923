"""Packed trials: processes that each train several trials as one batched model, and the loop that leads them.

Tune gives every trial a process of its own, so it cannot lead trials that train together. Here the processes take
trials as they come; each trial is one of its own to Tune's scheduler, to the searcher, to storage and to the tracker.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Protocol, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ipgl.config import ResourceSettings
from ipgl.config.ranges import Scalar
from ipgl.core.errors import ResourceError
from ipgl.execution.pack_actor import PackActor
from ipgl.execution.pack_messages import TrialCommands, TrialEvent
from ipgl.execution.recorder import TrialRecorder, is_node_loss
from ipgl.execution.trial_function import STORAGE_PAUSE_SECONDS, TrialFunction

_POLL_SECONDS = 0.5
_MOST_STILLBORN = 10


_Argument = TypeVar("_Argument", contravariant=True)


class _RemoteMethod(Protocol[_Argument]):
    """A method of an actor, which `remote` calls; it returns a reference to the answer."""

    def remote(self, argument: _Argument, /) -> object: ...


class _Actor(Protocol):
    """A `PackActor` in another process."""

    begin: _RemoteMethod[TrialFunction]
    exchange: _RemoteMethod[TrialCommands]
    follow: _RemoteMethod[TrialCommands]


@dataclass(frozen=True)
class PackLayout:
    """How many trials run at once, in how many processes, and how many each process takes."""

    at_once: int
    processes: int
    size: int = 1


@dataclass(eq=False)
class _Trial:
    """A trial that has been drawn.

    Attributes:
        number: Its number over all phases.
        parameters: What `TrialFunction.config` takes.
        alone: Whether it may run beside others: one whose pack was lost may not, so that it is known which one did it.
        not_before: `time.monotonic()` before which it is not started again.
    """

    number: int
    parameters: dict[str, Scalar]
    alone: bool = False
    not_before: float = 0.0

    @property
    def handle(self) -> SimpleNamespace:
        """All that a scheduler of Tune's reads of a trial."""
        return SimpleNamespace(trial_id=str(self.number))


@dataclass(eq=False)
class _Process:
    """An actor, the trials in it, and the commands that it is sent next.

    Attributes:
        call: The answer that is waited for; None if nothing has been asked.
        ready: Whether it has ever answered: on a cluster that grows, or has lost a node, an actor may wait for ever.
        stillborn: Actors of it in a row that died before they answered.
    """

    actor: _Actor
    call: object = None
    ready: bool = False
    stillborn: int = 0
    trials: dict[int, _Trial] = field(default_factory=dict)
    commands: TrialCommands = field(default_factory=TrialCommands)

    def room(self, size: int) -> bool:
        """Whether it may take another trial, of so many in all."""
        return len(self.trials) < size and not any(trial.alone for trial in self.trials.values())

    def take_commands(self) -> TrialCommands:
        """The commands that wait, which are sent once."""
        commands, self.commands = self.commands, TrialCommands()
        return commands


class Pool:
    """The processes of a study; `close` ends them."""

    def __init__(self, resources: ResourceSettings) -> None:
        """Begin without processes; each will take what `resources` says of one worker."""
        self._share = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus}
        self._processes: list[_Process] = []
        self.numbers = count()  # of trials, over all phases

    def processes(self, wanted: int, function: TrialFunction) -> list[_Process]:
        """So many processes, whose next trials are those of `function`; the ones that live already come first."""
        self._processes.sort(key=lambda process: not process.ready)
        while len(self._processes) < wanted:
            self._processes.append(_Process(self._actor()))
        chosen = self._processes[:wanted]
        for process in chosen:
            process.call = process.actor.begin.remote(function)
        return chosen

    def replace(self, process: _Process, function: TrialFunction) -> None:
        """Give a process that was lost another actor; the one before is ended first, in case it still writes."""
        with suppress(RayError):
            ray.kill(process.actor)
        process.actor, process.ready, process.commands = self._actor(), False, TrialCommands()
        process.call = process.actor.begin.remote(function)

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for process in self._processes:
            with suppress(RayError):
                ray.kill(process.actor)
        self._processes.clear()

    def _actor(self) -> _Actor:
        actor: _Actor = ray.remote(PackActor).options(**self._share).remote()
        return actor


class PooledTrials:
    """Runs so many trials of one phase.

    Args:
        pool: Whose processes train.
        function: What the trials are.
        layout: How they are packed.
        record: Receives what happens to each.
        given: The trials' parameters; those that a searcher draws are empty.
        searcher: Draws parameters.
        scheduler: Tune's.
    """

    def __init__(
        self,
        pool: Pool,
        function: TrialFunction,
        layout: PackLayout,
        record: TrialRecorder,
        given: Sequence[dict[str, Scalar]],
        *,
        searcher: Searcher | None = None,
        scheduler: TrialScheduler | None = None,
    ) -> None:
        self._pool, self._function, self._layout, self._record = pool, function, layout, record
        self._left, self._searcher, self._scheduler = deque(given), searcher, scheduler
        self._again: deque[_Trial] = deque()
        self._processes: list[_Process] = []

    def run(self) -> None:
        """Run them all, or until the storage takes nothing any more.

        Raises:
            ResourceError: The cluster starts no process that lives.
        """
        self._processes = self._pool.processes(self._layout.processes, self._function)
        while self._record.refused is None:
            self._fill()
            self._send()
            if not (self._again or self._left or any(process.trials for process in self._processes)):
                return
            calls = {process.call: process for process in self._processes if process.call is not None}
            if not calls:  # the only trials left wait for their time
                time.sleep(_POLL_SECONDS)
                continue
            answers, _ = ray.wait(list(calls), timeout=_POLL_SECONDS if self._again else None)
            for answer in answers:
                calls[answer].call = None
                self._receive(calls[answer], answer)

    def _fill(self) -> None:
        """Give every free place a trial, the emptiest process first."""
        while True:
            free = [
                process for process in self._processes if process.ready and process.room(self._layout.size)
            ]
            busy = sum(len(process.trials) for process in self._processes)
            if not free or busy >= self._layout.at_once:
                return
            process = min(free, key=lambda process: len(process.trials))
            trial = self._next(empty=not process.trials)
            if trial is None:
                return
            process.trials[trial.number] = trial
            process.commands.submit.append((trial.number, trial.parameters))
            self._record.began(self._function.config(trial.parameters))

    def _send(self) -> None:
        """Send the commands that wait; of a process without trials no answer is awaited."""
        for process in self._processes:
            if process.trials and process.call is None:
                process.call = process.actor.exchange.remote(process.take_commands())
            elif process.commands and not process.trials:
                process.actor.follow.remote(process.take_commands())

    def _next(self, *, empty: bool) -> _Trial | None:
        """The trial to start next, in a process that is empty or not."""
        now = time.monotonic()
        ripe = (trial for trial in self._again if trial.not_before <= now and (empty or not trial.alone))
        if trial := next(ripe, None):
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

    def _receive(self, process: _Process, answer: object) -> None:
        """Handle what one process's trials have reported, or that it was lost with all of them."""
        try:
            events: list[TrialEvent] = ray.get(answer)
        except RayTaskError:
            raise  # a fault of our own in the actor's methods: no trial raises there
        except RayError as error:
            self._lost(process, error)
            return
        process.ready = True
        for event in events:
            if event.trial not in process.trials:
                continue  # it was stopped
            if event.kind == "row":
                self._decide(process, event)
                continue
            trial = process.trials.pop(event.trial)
            if event.kind == "end":
                self._completed(trial, event.content)
            else:
                self._failed(trial, event.content, charged=True)

    def _lost(self, process: _Process, error: RayError) -> None:
        """Handle the loss of a process.

        If a single trial ran in it, the loss counts as that trial's failure. If there were several, each is retried in
        a process of its own, and the loss counts for none of them.
        """
        node_lost = is_node_loss(error)
        if not node_lost:
            process.stillborn = 0 if process.ready else process.stillborn + 1
        if process.stillborn > _MOST_STILLBORN:
            raise ResourceError(
                f"{process.stillborn} processes in a row died on the cluster before they could take a trial; "
                f"`ipgl doctor` looks at every node. The last one: {error}"
            ) from None
        lost, process.trials = list(process.trials.values()), {}
        self._pool.replace(process, self._function)
        for trial in lost:
            trial.alone = trial.alone or (len(lost) > 1 and not node_lost)
            self._failed(trial, error, charged=len(lost) == 1 and not node_lost)

    def _decide(self, process: _Process, event: TrialEvent) -> None:
        trial, row = process.trials[event.trial], event.content
        self._record.reported(self._function.config(trial.parameters), row)
        if self._searcher:
            self._searcher.on_trial_result(str(trial.number), row)
        decision = self._scheduler.on_trial_result(None, trial.handle, row) if self._scheduler else None
        if decision == TrialScheduler.STOP:
            process.commands.stop.append(trial.number)
            del process.trials[trial.number]
            self._completed(trial, row)
        else:
            process.commands.proceed.append(trial.number)

    def _completed(self, trial: _Trial, row: dict[str, float]) -> None:
        if self._scheduler:
            self._scheduler.on_trial_complete(None, trial.handle, row)
        if self._searcher:
            self._searcher.on_trial_complete(str(trial.number), row)
        self._record.completed(self._function.config(trial.parameters))

    def _failed(self, trial: _Trial, error: Exception, *, charged: bool) -> None:
        config = self._function.config(trial.parameters)
        if self._record.may_try_again(config, error, charged=charged):
            failures = self._record.failures[config.key]
            pause = STORAGE_PAUSE_SECONDS * failures if isinstance(error, OSError) else 0.0
            trial.not_before = time.monotonic() + pause
            self._again.append(trial)
        elif self._searcher:
            self._searcher.on_trial_complete(str(trial.number), error=True)
