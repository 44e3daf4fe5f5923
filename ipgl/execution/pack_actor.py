"""A process of packed trials: an actor whose trials live in threads and train together."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from functools import partial

from ipgl.config.ranges import Scalar
from ipgl.execution.pack_messages import TrialCommands, TrialEvent
from ipgl.execution.trial_function import RowReporter, TrialFunction, last_row
from ipgl.training import Pack, PackFailedError
from ipgl.trial.run import run_trial

_WAIT_SECONDS = 5.0


class _StoppedError(BaseException):
    """The trial is to end. No `Exception`: it is no failure, and the driver records it."""


class _Decision:
    """The driver's decision on a trial's last row, for which the trial's thread may wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open, self._stopped = False, False

    def ask(self) -> None:
        """A row has been sent."""
        with self._changed:
            self._open = True

    def answer(self, proceed: bool) -> None:
        """The driver has decided on the row."""
        with self._changed:
            self._open, self._stopped = False, not proceed
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the decision, if one is open.

        Raises:
            _StoppedError: The trial is to end.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._open)
            if self._stopped:
                raise _StoppedError


class PackActor:
    """The actor."""

    def __init__(self) -> None:
        """Begin without trials."""
        self._function: TrialFunction | None = None
        self._pack = Pack()
        self._sent = threading.Condition()
        self._events: list[TrialEvent] = []
        # Trials whose end the driver has been sent, and has not yet answered with others in their place.
        self._ended = 0
        self._decisions: dict[int, _Decision] = {}

    def begin(self, function: TrialFunction) -> list[TrialEvent]:
        """Set what the next trials are."""
        self._function = function
        function.set_threads()
        return []

    def exchange(self, commands: TrialCommands) -> list[TrialEvent]:
        """Follow commands, then wait for events; none after some seconds."""
        self.follow(commands)
        with self._sent:
            self._sent.wait_for(lambda: self._events, _WAIT_SECONDS)
            events, self._events = self._events, []
        self._ended = sum(event.kind != "row" for event in events)
        return events

    def follow(self, commands: TrialCommands) -> None:
        """Follow commands, and do not wait."""
        for trials, proceed in ((commands.proceed, True), (commands.stop, False)):
            for trial in trials:
                if decision := self._decisions.get(trial):  # it may have failed meanwhile
                    decision.answer(proceed)
        for trial, parameters in commands.submit:
            decision = self._decisions[trial] = _Decision()
            arguments = (self._function, trial, parameters, decision, self._pack.membership())
            threading.Thread(target=self._work, args=arguments, daemon=True).start()
        self._pack.close_places(self._ended)
        self._ended = 0

    def _send(self, event: TrialEvent) -> None:
        with self._sent:
            self._events.append(event)
            self._sent.notify_all()

    def _work(
        self,
        function: TrialFunction,
        trial: int,
        parameters: dict[str, Scalar],
        decision: _Decision,
        membership: AbstractContextManager[None],
    ) -> None:
        with membership:
            try:
                last = TrialEvent(trial, "end", self._result(function, trial, parameters, decision))
            except _StoppedError:
                return
            except BaseException as error:  # in a thread nobody else would hear of it
                last = TrialEvent(trial, "error", error)
            finally:
                del self._decisions[trial]
            self._pack.vacate()
        self._send(last)

    def _result(
        self, function: TrialFunction, trial: int, parameters: dict[str, Scalar], decision: _Decision
    ) -> dict[str, float]:
        sent = 0

        def send(row: dict[str, float]) -> None:
            nonlocal sent
            if row["training_iteration"] > sent:  # or it was sent before training together failed
                sent = int(row["training_iteration"])
                decision.ask()
                self._send(TrialEvent(trial, "row", row))

        function.prepare()
        config = function.config(parameters)
        reporter = RowReporter(config.training.epochs, send)
        # While the driver decides on a row the next steps are trained; nothing of them is kept before it has.
        ready = partial(self._pack.step_aside, decision.wait)
        folder = function.folder.trial(config.key)
        try:
            result = run_trial(config, folder, reporter, partial(self._pack.train, ready=ready))
        except PackFailedError:
            ready()
            result = run_trial(config, folder, reporter)
        return last_row(config, result)
