"""Receivers of a run's evaluation rows."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives one row of metrics after each evaluation; may raise to end the run."""

    def report(self, row: dict[str, float]) -> None:
        """Take a row: `step`, `epoch`, `time` and metrics, all floats."""


class SilentReporter:
    """Keeps nothing."""

    def report(self, row: dict[str, float]) -> None:
        """Ignore the row."""
