"""Messages between the driver and a process of packed trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ipgl.config.ranges import Scalar


class TrialEvent(NamedTuple):
    """One event of a trial.

    Attributes:
        trial: The number under which it was submitted.
        kind: A `row` waits for the driver's decision; after an `end` or `error` nothing comes.
        content: The row, the last row, or what was raised.
    """

    trial: int
    kind: Literal["row", "end", "error"]
    content: Any


@dataclass(frozen=True)
class TrialCommands:
    """What the trials of a process are to do.

    Attributes:
        submit: Trials to begin, or to go on from storage: their numbers and parameters.
        proceed: Trials that go on after their row.
        stop: Trials that end with their row.
    """

    submit: list[tuple[int, dict[str, Scalar]]] = field(default_factory=list)
    proceed: list[int] = field(default_factory=list)
    stop: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.submit or self.proceed or self.stop)
