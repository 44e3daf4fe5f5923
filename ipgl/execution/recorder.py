"""What becomes of each trial: told to whoever watches, and kept for trials that could not keep it themselves."""

from __future__ import annotations

import time

from ipgl.config import TrialConfig
from ipgl.core.retry import lasting
from ipgl.evaluation import Failure
from ipgl.execution.events import Events
from ipgl.execution.trial_function import SCORE, failure_of
from ipgl.storage.study_folder import StudyFolder
from ipgl.trial.run import base_result, stopped_result


class TrialRecord:
    """The trials of one phase.

    Attributes:
        refused: Why the storage takes nothing any more; once it does so for good, no trial can end.
    """

    def __init__(self, folder: StudyFolder, events: Events) -> None:
        self._folder, self._events = folder, events
        self.refused: OSError | None = None

    def began(self, config: TrialConfig) -> None:
        """A trial has been started."""
        self._events.began(config)

    def reported(self, config: TrialConfig, row: dict[str, float]) -> None:
        """A trial has told its score."""
        self._events.reported(config, float(row.get(SCORE, float("nan"))))

    def completed(self, config: TrialConfig) -> None:
        """A trial has come to its end, or was stopped after its last row."""
        self._end(config, None)

    def failed(self, config: TrialConfig, error: Exception | None) -> None:
        """A trial was started as often as allowed; `error` is what is known of the reason."""
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, OSError) and lasting(cause):
            self.refused = cause  # not the trial's failure: a resumed study runs it again
        if self.refused is not None:
            return
        if cause is None:
            failure = Failure(kind="ProcessDied", message="the trial's process ended without a word")
        else:
            failure = failure_of(cause, str(error))
        self._end(config, failure)

    def _end(self, config: TrialConfig, failure: Failure | None) -> None:
        folder = self._folder.trial(config.key)
        result = folder.read_result()
        if result is None:
            rows = folder.read_history()
            base = base_result(config, rows[0]["time"] if rows else time.time())
            result = base.model_copy(update={"failure": failure}) if failure else stopped_result(base, rows)
            try:
                folder.write_start(config)
                folder.write_result(result)
                folder.drop_checkpoints()
            except OSError as error:
                self.refused = error
                return
        self._events.ended(result)
