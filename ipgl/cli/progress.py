"""How far a study is: what the live table shows, here or on the screen of somebody who follows it from elsewhere."""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ipgl.core.durations import precise_duration

# Begins a line of output that is for programs.
MARK = "::ipgl-progress:: "
OVER = f"{MARK}over"


class MethodProgress(BaseModel):
    """One label's counts.

    Attributes:
        best: Highest score of its completed search trials, of which one that is no better than guessing counts only
            where all are so; None without one.
        tested: Completed final runs.
        repeated: Completed component runs.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str
    searched: int
    to_search: int
    running: int
    stopped: int
    failed: int
    best: float | None
    tested: int
    to_test: int
    repeated: int = 0
    to_repeat: int = 0


class Progress(BaseModel):
    """A study at one moment.

    Attributes:
        study: Its name.
        seconds: Since the study began or was resumed.
        seconds_left: Expected from now on; None while there is nothing to judge by.
        ended: Runs that have ended.
        total: Runs in all.
        methods: One entry per label.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    study: str
    seconds: float
    seconds_left: float | None
    ended: int
    total: int
    methods: tuple[MethodProgress, ...]
    # The clock of whoever looks, which may be another machine's than the study's.
    _seen_at: float = PrivateAttr(default_factory=time.monotonic)

    def line(self) -> str:
        """As one line for programs."""
        return f"{MARK}{self.model_dump_json()}"

    @classmethod
    def read(cls, line: str) -> Progress | None:
        """What `line` wrote; None if the line is something else."""
        if not line.startswith(MARK):
            return None
        try:
            return cls.model_validate_json(line[len(MARK) :])
        except ValidationError:  # of another version, or cut off
            return None

    def table(self) -> RenderableType:
        """What a terminal shows."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        repeats = any(method.to_repeat for method in self.methods)
        names = ("method", "search", "running", "stopped", "failed", "best score", "final runs")
        for name in (*names, "component runs") if repeats else names:
            table.add_column(name, justify="left" if name == "method" else "right")
        for method in self.methods:
            table.add_row(
                method.label,
                f"{method.searched}/{method.to_search}",
                str(method.running),
                str(method.stopped),
                str(method.failed),
                "-" if method.best is None else f"{method.best:.3f}",
                f"{method.tested}/{method.to_test}",
                *([f"{method.repeated}/{method.to_repeat}"] if repeats else []),
            )
        left = (
            "time left: unknown"
            if self.seconds_left is None
            else f"about {precise_duration(self.seconds_left)} left"
        )
        elapsed = precise_duration(self.seconds + time.monotonic() - self._seen_at)
        title = Text.assemble((self.study, "bold"), f"  {elapsed} so far, {left}")
        return Group(title, table, ProgressBar(total=self.total, completed=self.ended, width=60))
