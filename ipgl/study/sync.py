"""Keeps the tracker's copy of a study up to date, beside the study and without ever holding it up."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipgl.config import TrialConfig
from ipgl.errors import TrackingError
from ipgl.evaluation import RunResult, StudyResults
from ipgl.study.collect import study_environment
from ipgl.study.folder import StudyFolder, TrialFolder
from ipgl.study.plan import StudyPlan
from ipgl.tracking import RunView, StudyView, Tracker

_PERIOD_SECONDS = 2.0


class TrackerSync:
    """A thread that shows the tracker what stands on storage; use as a context manager.

    Storage comes first: what the tracker cannot take now it is shown again later, at the latest when the
    study closes or is resumed.
    """

    def __init__(
        self,
        tracker: Tracker,
        plan: StudyPlan,
        folder: StudyFolder,
        execution: str,
        created_at: float,
        fingerprint: str = "",
    ) -> None:
        self._tracker, self._plan, self._folder = tracker, plan, folder
        self._execution, self._created_at, self._fingerprint = execution, created_at, fingerprint
        self._waiting: dict[str, None] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ipgl-tracker", daemon=True)
        self.warnings: list[str] = []

    def __enter__(self) -> TrackerSync:
        self._tracker.open_study(
            StudyView(
                study=self._plan.config.name,
                execution=self._execution,
                question=self._plan.config.question,
                config=self._plan.config.model_dump(mode="json"),
                config_hash=self._plan.hash,
                data_fingerprint=self._fingerprint,
                environment=study_environment(),
                started_at=self._created_at,
            )
        )
        for trial in self._folder.trials():
            self._waiting[trial.path.name] = None
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is not None:
            self._attempt(self._tracker.interrupt)

    def began(self, config: TrialConfig) -> None:
        """Show the trial soon."""
        self._want(config.key)

    def reported(self, config: TrialConfig, score: float) -> None:
        """Show the trial's new row soon."""
        self._want(config.key)

    def ended(self, result: RunResult) -> None:
        """Show the trial's end soon."""
        self._want(result.trial)

    def close(self, results: StudyResults, artifacts: Sequence[Path], figures: Mapping[str, Any]) -> None:
        """Show everything that is still waiting, then the outcome."""
        self._stop.set()
        self._thread.join()
        for trial in self._folder.trials():
            self._want(trial.path.name)
        self._show_waiting()
        self._attempt(lambda: self._tracker.close_study(results, artifacts, figures))

    def _want(self, key: str) -> None:
        with self._guard:
            self._waiting[key] = None

    def _work(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            self._show_waiting()

    def _show_waiting(self) -> None:
        with self._guard:
            keys, self._waiting = list(self._waiting), {}
        if not keys:
            return
        # Read once for all of them: every listing reads one file per trial of the study.
        begun = {trial.path.name: trial for trial in self._folder.trials()}
        for key in keys:
            # A trial that the cluster announced but that has not begun on storage comes again with its first row.
            if key in begun and not self._attempt(lambda trial=begun[key]: self._show(trial)):
                self._want(key)

    def _show(self, folder: TrialFolder) -> None:
        config = folder.read_start()
        if config is None:
            return
        result = folder.read_result()
        artifacts = [path for path in (folder.result, folder.model, folder.predictions) if path.exists()]
        self._tracker.record(
            RunView(
                key=folder.path.name,
                label=config.label,
                method=config.method.name,
                phase=config.phase,
                number=folder.number,
                seed=config.seed,
                parameters=_flat(config),
                rows=folder.read_history(),
                result=result,
                artifacts=artifacts if result else (),
            )
        )

    def _attempt(self, action: Any) -> bool:
        try:
            action()
        except TrackingError as error:
            message = str(error)
            if message not in self.warnings:
                self.warnings.append(message)
            return False
        return True


def _flat(config: TrialConfig) -> dict[str, Any]:
    """A trial's settings by short dotted keys: method, training, model and data set, without what never differs."""
    flat: dict[str, Any] = {"method": config.method.name, "model": config.model.name, "seed": config.seed}
    for prefix, values in (
        ("", config.method.settings),
        ("training.", config.training.model_dump(mode="json")),
        ("model.", config.model.settings),
        ("dataset.", config.dataset.settings),
    ):
        flat |= _leaves(prefix, values)
    return flat


def _leaves(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _leaves(f"{prefix}{name}.", value)
        else:
            flat[f"{prefix}{name}"] = value
    return flat
