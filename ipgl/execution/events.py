"""Events of a running study, for displays and trackers."""

from __future__ import annotations

from typing import Protocol

from ipgl.config import TrialConfig
from ipgl.evaluation import RunResult


class Events(Protocol):
    """Callbacks for events of a study, called in the driver process by the thread that runs it; must return quickly."""

    def began(self, config: TrialConfig) -> None:
        """A trial started, or started again."""

    def reported(self, config: TrialConfig, score: float) -> None:
        """A trial reported its selection score after an evaluation."""

    def ended(self, result: RunResult) -> None:
        """A trial ended; its result is on storage."""


class AllEvents:
    """Passes each event on to several callbacks."""

    def __init__(self, *watchers: Events) -> None:
        self._watchers = watchers

    def began(self, config: TrialConfig) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.began(config)

    def reported(self, config: TrialConfig, score: float) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.reported(config, score)

    def ended(self, result: RunResult) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.ended(result)
