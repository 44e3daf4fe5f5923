"""Progress of a study: the live table, and its content as records for other processes."""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ipgl.core.durations import precise_duration

# The beginning of a record, which is one line of output; `OVER` is the last one.
MARK = "::ipgl-progress:: "
OVER = f"{MARK}over"


class MethodProgress(BaseModel):
    """Progress of one label.

    Attributes:
        label: The method's name in the study.
        searched: Search trials that have ended, of `to_search`.
        running: Trials that are running.
        stopped: Search trials that were stopped early.
        failed: Trials that failed.
        best: Highest score of the completed search trials; None without one. Trials no better than guessing count only
            if all are.
        tested: Completed final runs, of `to_test`.
        repeated: Completed component runs, of `to_repeat`.
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
    """Progress of a study at one moment.

    Attributes:
        study: The study's name.
        seconds: Seconds since the study was started or resumed.
        seconds_left: Estimate of the remaining seconds; None before the first trial has ended.
        ended: Number of trials that have ended.
        total: Number of all trials.
        methods: Progress of each label.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    study: str
    seconds: float
    seconds_left: float | None
    ended: int
    total: int
    methods: tuple[MethodProgress, ...]
    # By the clock of this process, which may run on another machine than the study.
    _seen_at: float = PrivateAttr(default_factory=time.monotonic)

    def line(self) -> str:
        """The progress as a record of one line."""
        return f"{MARK}{self.model_dump_json()}"

    @classmethod
    def read(cls, line: str) -> Progress | None:
        """The progress from a line that `line` made; None for other lines."""
        if not line.startswith(MARK):
            return None
        try:
            return cls.model_validate_json(line[len(MARK) :])
        except ValidationError:  # a record of another version, or an incomplete one
            return None

    def table(self) -> RenderableType:
        """The progress as a table with a title and a bar."""
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
