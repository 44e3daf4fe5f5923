"""Display of a remote study's output: its lines, and on a terminal its live progress table."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ipgl.cli.progress import MARK, OVER, Progress


class LogFollower:
    """Shows output that arrives in pieces; use as a context manager, which restores the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rest = ""
        self._progress: Progress | None = None
        self._live = Live(
            get_renderable=lambda: self._progress.table() if self._progress else Text(),
            console=console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> LogFollower:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rest and not self._rest.startswith(MARK):
            self._show(self._rest)
        self._live.stop()

    def write(self, text: str) -> None:
        """Show a piece of output; an incomplete line is shown once it is complete."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if not line.startswith(MARK):
                self._show(f"{line}\n")
            elif line == OVER:
                self._live.stop()
            elif self._console.is_terminal and (found := Progress.read(line)):
                self._progress = found
                self._live.start()

    def _show(self, text: str) -> None:
        if self._console.is_terminal:
            self._console.print(Text(text), soft_wrap=True, end="")
        else:
            sys.stdout.write(text)
            sys.stdout.flush()


def without_records(output: str) -> str:
    """A study's output without the progress records."""
    return "".join(line for line in output.splitlines(keepends=True) if not line.startswith(MARK))
