"""Several training runs in threads of one process, which are trained together as one stack where they fit.

Each run keeps its own course: it is set up, evaluated, saved and reported by its own thread, as it would be alone. Only
between two evaluations it waits for the others, and all that wait and fit together are trained as one stack. A run that
ends, fails or leaves does so in its thread, and the others go on without it; a new one joins at the next evaluation.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ipgl.training.checkpoint import RandomState, random_state, restore_random_state
from ipgl.training.loop import TrainingOutcome, TrainingRun
from ipgl.training.stack import stack_key, train_together

# How long runs that are ready wait for runs that have stepped aside, and for new runs in place of those that ended.
PATIENCE_SECONDS = 0.1


class PackFailedError(BaseException):
    """Training together failed, so that the state of its runs is unknown: train each alone from its last checkpoint.

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
    """The runs of one process. One thread works at a time, the one that holds the lock; it owns torch's generator."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Begin without runs."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._patience = patience_seconds
        self._counters = threading.Lock()  # guards the next three; never held for long, unlike the lock above
        # Members that hold the lock or want it: sooner or later each of them waits, steps aside or ends.
        self._busy = 0
        self._absent = (
            0  # members that stepped aside, and places for which the caller of `vacate` will decide
        )
        self._settled = 0.0  # when the last busy member stopped being so
        self._waiting: list[_Ticket] = []
        self.largest = 0  # the most runs that were one stack

    def membership(self) -> AbstractContextManager[None]:
        """Take part, from the thread that enters this; inside, it holds the lock.

        The others wait for it from now on: call this before its thread is started, so that those who begin together
        stay together.
        """
        self._count(busy=1)
        return self._member()

    @contextmanager
    def _member(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            self._yield(busy=-1)

    def vacate(self) -> None:
        """As a member that is about to end: announce that another one may soon take its place."""
        self._count(absent=1)

    def close_places(self, number: int) -> None:
        """Announce that so many places left with `vacate` have been filled or will not be."""
        self._count(absent=-number)

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
        self._yield(busy=-1, absent=1)
        try:
            wait()
        finally:
            self._count(busy=1, absent=-1)
            self._lock.acquire()
            restore_random_state(random)

    def _count(self, busy: int = 0, absent: int = 0) -> None:
        with self._counters:
            self._busy += busy
            self._absent += absent
            if busy < 0:
                self._settled = time.monotonic()

    def _yield(self, busy: int = 0, absent: int = 0) -> None:
        """Release the lock, and wake the other threads."""
        self._count(busy, absent)
        self._changed.notify_all()
        self._lock.release()

    def _trained_together(self, run: TrainingRun, key: Hashable) -> dict[str, Tensor]:
        ticket = _Ticket(run, key, random_state())
        self._waiting.append(ticket)
        self._count(busy=-1)
        self._changed.notify_all()
        while not ticket.done:
            with self._counters:
                left = self._patience - (time.monotonic() - self._settled) if self._absent else 0.0
                patience = None if self._busy else left
            if patience is None or patience > 0:
                self._changed.wait(patience)
            else:
                self._train_waiting()
        restore_random_state(ticket.random)
        if ticket.error is not None:
            raise PackFailedError(str(ticket.error)) from ticket.error
        return ticket.reported

    def _train_waiting(self) -> None:
        groups: dict[Hashable, list[_Ticket]] = defaultdict(list)
        for ticket in self._waiting:
            groups[ticket.key].append(ticket)
        self._count(busy=len(self._waiting))
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
        self._changed.notify_all()

    def _train_alone(self, ticket: _Ticket) -> None:
        restore_random_state(ticket.random)
        try:
            ticket.reported = ticket.run.train_segment()
        except Exception as error:
            ticket.error = error
        ticket.random, ticket.done = random_state(), True
