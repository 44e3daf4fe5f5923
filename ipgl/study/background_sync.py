"""Synchronisation of a running study with its tracker, in a background thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from ipgl.config import TrialConfig
from ipgl.core.errors import TrackingError
from ipgl.evaluation import RunResult, StudyResults
from ipgl.storage.study_dir import StudyFolder, study_command
from ipgl.study.study_tracker import StudyTracker

_PERIOD_SECONDS = 2.0
# The pause is at least so many times the CPU time of a synchronisation, since trials need the cores.
_SHARE = 20
_LONGEST_PAUSE_SECONDS = 30.0
# How long the end of a study waits for an unreachable tracker: long enough for a server to restart.
_END_WAIT_SECONDS = 20.0


class BackgroundSync:
    """A thread that copies a study from storage to its tracker; use as a context manager.

    Storage is the source of truth: what the tracker cannot record now is sent again later, at the latest when the
    study ends, is resumed, or is synchronised by `ipgl track sync`. Errors of the tracker are never raised, except
    when the context is entered with `must_open`; afterwards they become `warnings`.
    """

    def __init__(self, study: StudyTracker, *, must_open: bool = True) -> None:
        """Store the study; no connection is made yet.

        Args:
            study: The study and its tracker.
            must_open: Raise if the tracker cannot be used at the beginning. Meant for new studies, where a mistyped
                address is more likely than an outage of the server.
        """
        self._study = study
        self._must_open = must_open
        self._opened = self._away = self._closed = False
        self._trouble = ""
        self._waiting: dict[str, None] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ipgl-tracker", daemon=True)

    def __enter__(self) -> BackgroundSync:
        if self._must_open:
            self._study.open()
            self._opened = True
        self._want_all()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._end_thread() and kind is not None and self._opened:
            self._attempt(self._study.tracker.interrupt)

    def began(self, config: TrialConfig) -> None:
        """Queue a trial that has started; an event of `Events`."""
        self._want(config.key)

    def reported(self, config: TrialConfig, score: float) -> None:
        """Queue a trial that has a new evaluation; an event of `Events`."""
        self._want(config.key)

    def ended(self, result: RunResult) -> None:
        """Queue a trial that has ended; an event of `Events`."""
        self._want(result.trial)

    def close(self, results: StudyResults) -> None:
        """Synchronise all trials and the results; waits up to 20 s for a tracker that is unreachable."""
        if not self._end_thread():
            return
        self._want_all()
        deadline = time.monotonic() + _END_WAIT_SECONDS
        while True:
            self._show_waiting()
            if self._reachable() and self._attempt(partial(self._study.close, results)):
                self._closed = True
                return
            if time.monotonic() > deadline:
                return
            time.sleep(_PERIOD_SECONDS)

    @property
    def warnings(self) -> list[str]:
        """What the tracker lacks, and the command that completes it; errors that were made up for are left out."""
        warnings = self._study.warnings
        if not self._closed or self._waiting:
            how = f"`{sync_command(self._study.folder)}` brings MLflow up to date from the study's files"
            warnings.append(f"{self._trouble} Nothing is lost: {how}.".lstrip())
        return warnings

    def _want(self, key: str) -> None:
        with self._guard:
            self._waiting[key] = None

    def _want_all(self) -> None:
        for key in self._study.trials():
            self._want(key)

    def _end_thread(self) -> bool:
        """Stop the thread and return whether it has ended; one that hangs in a request ends with the process."""
        self._stop.set()
        self._thread.join(_END_WAIT_SECONDS)
        if self._thread.is_alive():
            self._trouble = "The tracking server does not answer."
        return not self._thread.is_alive()

    def _work(self) -> None:
        pause = _PERIOD_SECONDS
        while not self._stop.wait(pause):
            begun = time.thread_time()
            self._show_waiting()
            if not self._away:
                self._attempt(self._study.tracker.observe_machine)
            wanted = 2 * pause if self._away else _SHARE * (time.thread_time() - begun)
            pause = min(max(wanted, _PERIOD_SECONDS), _LONGEST_PAUSE_SECONDS)

    def _reachable(self) -> bool:
        if not self._opened:
            self._opened = self._attempt(self._study.open)
            return self._opened
        return not self._away or self._attempt(self._study.tracker.check)

    def _show_waiting(self) -> None:
        if not self._reachable():
            return
        with self._guard:
            keys, self._waiting = list(self._waiting), {}
        if not keys:
            return
        # Listed once for all: each listing reads one file per trial of the study.
        begun = self._study.trials()
        # A trial that is not on storage yet is queued again with its first evaluation.
        trials = [begun[key] for key in keys if key in begun]
        for number, trial in enumerate(trials):
            if not self._reachable():
                for later in trials[number:]:
                    self._want(later.path.name)
                return
            if not self._attempt(partial(self._study.show, trial)):
                self._want(trial.path.name)

    def _attempt(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except TrackingError as error:
            self._trouble = str(error)
        except Exception as error:  # no error of the tracker may end the study
            self._trouble = f"Tracking failed unexpectedly ({type(error).__name__}: {error})."
        else:
            self._away = False
            return True
        self._away = True
        return False


def sync_command(folder: StudyFolder) -> str:
    """The command that synchronises a study by hand."""
    return study_command(folder, "sync", group="track")
