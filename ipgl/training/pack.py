"""Runs that live in threads of one process and train together: `train` for several at once.

Each run keeps its own course: it is set up, evaluated, saved and reported by its own thread, as it would be alone. Only
between two evaluations it waits for the others, and all that wait and fit together are trained as one stack. A run that
ends, fails or leaves does so in its thread, and the others go on without it; a new one joins at the next evaluation.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ipgl.training.checkpoint import RandomState, random_state, restore_random_state
from ipgl.training.loop import TrainingOutcome, TrainingRun
from ipgl.training.stack import stack_key, train_together

# How long those who are ready wait for the others, who evaluate or are told what to do.
PATIENCE_SECONDS = 0.1
_TURN_SECONDS = 0.002


class PackFailedError(BaseException):
    """Training together failed, so that the state of those who did is unknown: train alone from the last checkpoint.

    No `Exception`: it is not the trial's failure and must not be recorded as one.
    """


@dataclass(eq=False)
class _Ticket:
    """A run that waits to be trained to its next evaluation."""

    run: TrainingRun
    key: Hashable
    random: RandomState
    reported: dict[str, Tensor] = field(default_factory=dict)
    done: bool = False
    error: Exception | None = None


class Pack:
    """The runs of one process. One thread works at a time, whoever has the baton, and torch's generator is its own."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Begin without runs."""
        self._lock = threading.Lock()
        self._baton = threading.Condition(self._lock)
        self._door = threading.Lock()
        self._arriving = 0  # threads that want the baton, and are not here yet
        self._patience = patience_seconds
        self._members = 0
        self._waiting: list[_Ticket] = []
        self.largest = 0  # the most runs that were one stack

    @contextmanager
    def membership(self) -> Iterator[None]:
        """Take part, from the thread that this is called in; inside, the thread has the baton."""
        self._arrive()
        self._members += 1
        try:
            yield
        finally:
            self._members -= 1
            self._baton.notify_all()
            self._lock.release()

    def train(self, *args: Any, ready: Callable[[], None] = lambda: None, **kwargs: Any) -> TrainingOutcome:
        """As `ipgl.training.train`, together with other members; `ready` is called before each evaluation.

        Raises:
            PackFailedError: Training together failed for a reason that may be another member's.
        """
        run = TrainingRun(*args, **kwargs)
        key = stack_key(run)
        while run.steps_left:
            reported = run.train_segment() if key is None else self._trained_together(run, key)
            ready()
            run.close_segment(reported)
        return run.outcome()

    def step_aside(self, wait: Callable[[], None]) -> None:
        """Let others work while this thread waits."""
        random = random_state()
        self._lock.release()
        try:
            wait()
        finally:
            self._arrive()
            restore_random_state(random)

    def _arrive(self) -> None:
        """Get the baton; a lock alone would leave it with whoever had it."""
        with self._door:
            self._arriving += 1
        self._lock.acquire()
        with self._door:
            self._arriving -= 1

    def _trained_together(self, run: TrainingRun, key: Hashable) -> dict[str, Tensor]:
        ticket = _Ticket(run, key, random_state())
        self._waiting.append(ticket)
        self._baton.notify_all()
        deadline = time.monotonic() + self._patience
        while not ticket.done:
            left = deadline - time.monotonic()
            if self._arriving:
                self._baton.wait(_TURN_SECONDS)
            elif len(self._waiting) >= self._members or left <= 0:
                self._train_waiting()
            else:
                self._baton.wait(left)
        restore_random_state(ticket.random)
        if ticket.error is not None:
            raise PackFailedError(str(ticket.error)) from ticket.error
        return ticket.reported

    def _train_waiting(self) -> None:
        groups: dict[Hashable, list[_Ticket]] = defaultdict(list)
        for ticket in self._waiting:
            groups[ticket.key].append(ticket)
        self._waiting.clear()
        for group in groups.values():
            self.largest = max(self.largest, len(group))
            if len(group) == 1:
                self._train_alone(group[0])
                continue
            random = [ticket.random for ticket in group]
            try:
                reported = train_together([ticket.run for ticket in group], random)
            except Exception as error:
                for ticket in group:
                    ticket.done, ticket.error = True, error
                continue
            for ticket, own, state in zip(group, reported, random, strict=True):
                ticket.reported, ticket.random, ticket.done = own, state, True
        self._baton.notify_all()

    def _train_alone(self, ticket: _Ticket) -> None:
        restore_random_state(ticket.random)
        try:
            ticket.reported = ticket.run.train_segment()
        except Exception as error:
            ticket.error = error
        ticket.random, ticket.done = random_state(), True
