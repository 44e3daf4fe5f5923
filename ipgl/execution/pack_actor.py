"""A pack on the cluster: an actor whose trials live in threads and train together, and how it is talked to."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

from ipgl.execution.pack_messages import Event, Orders
from ipgl.execution.trial_function import RowReporter, TrialFunction, last_row
from ipgl.training import Pack, PackFailedError
from ipgl.trial.run import run_trial

_WAIT_SECONDS = 5.0


class _StoppedError(BaseException):
    """The trial is to end. No `Exception`: it is no failure, and the driver records it."""


class _Line:
    """What goes to and fro between a trial's thread and the driver."""

    def __init__(self) -> None:
        self._answered = threading.Condition()
        self._open, self._stopped = False, False

    def ask(self) -> None:
        """A row has been told."""
        with self._answered:
            self._open = True

    def answer(self, proceed: bool) -> None:
        """The driver has decided on the row."""
        with self._answered:
            self._open, self._stopped = False, not proceed
            self._answered.notify_all()

    def settle(self) -> None:
        """Wait for the answer, if there is a question.

        Raises:
            _StoppedError: The trial is to end.
        """
        with self._answered:
            self._answered.wait_for(lambda: not self._open)
            if self._stopped:
                raise _StoppedError


class Packer:
    """The actor."""

    def __init__(self) -> None:
        """Begin without trials."""
        self._function: TrialFunction | None = None
        self._pack = Pack()
        self._told = threading.Condition()
        self._events: list[Event] = []
        self._ended = 0  # trials whose end the driver has been told, but has not answered with others yet
        self._lines: dict[int, _Line] = {}

    def begin(self, function: TrialFunction) -> list[Event]:
        """Say what the next trials are."""
        self._function = function
        torch.set_num_threads(max(1, int(function.plan.config.resources.cpus_per_worker)))
        return []

    def exchange(self, orders: Orders) -> list[Event]:
        """Follow orders, then wait for something to be told; nothing after some seconds."""
        for trials, proceed in ((orders.proceed, True), (orders.stop, False)):
            for trial in trials:
                if line := self._lines.get(trial):  # it may have failed meanwhile
                    line.answer(proceed)
        for trial, parameters in orders.submit:
            line = self._lines[trial] = _Line()
            arguments = (self._function, trial, parameters, line, self._pack.membership())
            threading.Thread(target=self._work, args=arguments, daemon=True).start()
        self._pack.close_places(self._ended)
        with self._told:
            self._told.wait_for(lambda: self._events, _WAIT_SECONDS)
            events, self._events = self._events, []
        self._ended = sum(event.kind != "row" for event in events)
        return events

    def _tell(self, event: Event) -> None:
        with self._told:
            self._events.append(event)
            self._told.notify_all()

    def _work(
        self,
        function: TrialFunction,
        trial: int,
        parameters: dict[str, Any],
        line: _Line,
        membership: AbstractContextManager[None],
    ) -> None:
        with membership:
            try:
                last = Event(trial, "end", self._result(function, trial, parameters, line))
            except _StoppedError:
                return
            except BaseException as error:  # in a thread nobody else would hear of it
                last = Event(trial, "error", error)
            finally:
                del self._lines[trial]
            self._pack.vacate()
        self._tell(last)

    def _result(
        self, function: TrialFunction, trial: int, parameters: dict[str, Any], line: _Line
    ) -> dict[str, float]:
        told = 0

        def tell(row: dict[str, float]) -> None:
            nonlocal told
            if row["training_iteration"] > told:  # or it was told before training together failed
                told = int(row["training_iteration"])
                line.ask()
                self._tell(Event(trial, "row", row))

        function.prepare()
        config = function.config(parameters)
        reporter = RowReporter(config.training.epochs, tell)
        # While the driver decides on a row the next steps are trained; nothing of them is kept before it has.
        ready = partial(self._pack.step_aside, line.settle)
        folder = function.folder.trial(config.key)
        try:
            result = run_trial(config, folder, reporter, partial(self._pack.train, ready=ready))
        except PackFailedError:
            ready()
            result = run_trial(config, folder, reporter)
        return last_row(config, result)
