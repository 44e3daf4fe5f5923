"""What a driver and the processes of its trials tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Event(NamedTuple):
    """What a trial has to say.

    Attributes:
        trial: The number under which it was submitted.
        kind: A `row` waits for its answer; after an `end` or `error` nothing comes.
        content: The row, the last row, or what was raised.
    """

    trial: int
    kind: Literal["row", "end", "error"]
    content: Any


@dataclass(frozen=True)
class Orders:
    """What the trials of a process are told.

    Attributes:
        submit: Trials to begin, or to take up from storage: their numbers and parameters.
        proceed: Trials that go on after their row.
        stop: Trials that end with their row.
    """

    submit: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    proceed: list[int] = field(default_factory=list)
    stop: list[int] = field(default_factory=list)
