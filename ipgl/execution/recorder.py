"""Records starts, reports and ends of trials: for observers, and on storage for trials that ended without doing so."""

from __future__ import annotations

import time
from collections import Counter

from ipgl.config import TrialConfig
from ipgl.core.retry import is_permanent
from ipgl.evaluation import Failure
from ipgl.execution.events import Events
from ipgl.execution.trial_function import SCORE, TuneResult, failure_of
from ipgl.storage.study_dir import StudyFolder
from ipgl.trial.records import base_result, stopped_result


class TrialRecorder:
    """The trials of one phase, over as many starts as it takes.

    Attributes:
        refused: Why the storage takes nothing any more; once it does so for good, no trial can end.
        failures: How often each trial has failed by its own fault, by key.
        lost: Trials that were lost and have not ended since, by key.
    """

    def __init__(self, folder: StudyFolder, events: Events) -> None:
        self._folder, self._events = folder, events
        self.refused: OSError | None = None
        self.failures: Counter[str] = Counter()
        self.lost: dict[str, TrialConfig] = {}
        self._ended: set[str] = set()

    def began(self, config: TrialConfig) -> None:
        """A trial has been started."""
        self._events.began(config)

    def reported(self, config: TrialConfig, row: TuneResult) -> None:
        """A trial has reported its score."""
        self._events.reported(config, float(row.get(SCORE, float("nan"))))

    def completed(self, config: TrialConfig) -> None:
        """A trial has come to its end, or was stopped after its last row."""
        self._end(config, None)

    def may_try_again(self, config: TrialConfig, error: BaseException | None, *, charged: bool) -> bool:
        """Whether a trial that was lost is to be started again; if not, it is recorded as failed.

        Args:
            config: The trial.
            error: What is known of the reason.
            charged: Whether it counts against the trial's `resources.max_failures`: not where the node was lost, or
                where another trial of the same process may be to blame.
        """
        # What a trial's process raised, of Ray's error about it; the error itself where it has no other cause.
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, OSError) and is_permanent(cause):
            self.refused = cause  # not the trial's failure: a resumed study runs it again
        if self.refused is not None:
            return False
        if charged:
            self.failures[config.key] += 1
        if self.failures[config.key] <= config.resources.max_failures:
            self.lost[config.key] = config
            return True
        if cause is None:
            failure = Failure(kind="ProcessDied", message="the trial's process ended without a message")
        else:
            failure = failure_of(cause, str(error))
        self._end(config, failure)
        return False

    def _end(self, config: TrialConfig, failure: Failure | None) -> None:
        self.lost.pop(config.key, None)
        if config.key in self._ended:
            return  # its end has been passed on
        folder = self._folder.trial(config.key)
        result = folder.read_result()
        if result is None:
            rows = folder.read_history()
            base = base_result(config, rows[0]["time"] if rows else time.time())
            result = base.model_copy(update={"failure": failure}) if failure else stopped_result(base, rows)
            try:
                folder.write_start(config)
                folder.write_result(result)
                folder.checkpoints.remove()
            except OSError as error:
                self.refused = error
                return
        self._ended.add(config.key)
        self._events.ended(result)


def is_node_loss(error: BaseException | None) -> bool:
    """Whether a process was lost because its node was: a spot node taken away, a machine that crashed."""
    return bool(getattr(error, "preempted", False)) or "its node has died" in str(error or "")
