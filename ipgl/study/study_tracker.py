"""Recording of a study's files in a tracker; used while the study runs, and to synchronise it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ipgl.config import TrialConfig
from ipgl.core.errors import IpglError, StudyStateError
from ipgl.core.flatten import flatten
from ipgl.evaluation import RunResult, StudyResults
from ipgl.plan.final_runs import run_title
from ipgl.plan.study_plan import StudyPlan
from ipgl.report import (
    convergence_figure,
    diagnosed_runs,
    findings,
    invariance_figure,
    learning_figure,
    robustness_figure,
    trials_figure,
)
from ipgl.storage.study_dir import StudyFolder
from ipgl.storage.trial_dir import TrialFolder
from ipgl.study.results import study_environment
from ipgl.tracking import DataView, ModelView, RunView, StudyView, Tracker
from ipgl.trial.build import load_model
from ipgl.trial.datasets import dataset_facts, trial_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure
    from torch import nn

_EXAMPLES = 2  # a model exported with a batch of 1 may not accept other batch sizes


class StudyTracker:
    """Records a study in a tracker. Every method may be called repeatedly, and records what is new.

    Attributes:
        tracker: The tracker.
        folder: The study's folder.
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
        """Store the arguments; no connection is made yet.

        Args:
            tracker: The tracker.
            plan: The study's plan.
            folder: The study's folder.
            execution: Identifier of the study's execution, from its state.
            created_at: When the study was created, in seconds since the epoch.
            fingerprint: Fingerprint of the data.
        """
        self.tracker, self.folder = tracker, folder
        self._plan = plan
        self._execution, self._created_at, self._fingerprint = execution, created_at, fingerprint
        self._unreadable: dict[str, str] = {}

    def open(self) -> None:
        """Record that the study runs.

        Raises:
            TrackingError: The tracker cannot be used; raised within seconds if it is unreachable.
        """
        self.tracker.check()
        self.tracker.open_study(
            StudyView(
                study=self._plan.config.name,
                execution=self._execution,
                question=self._plan.config.question,
                config=self._plan.config.model_dump(mode="json"),
                config_hash=self._plan.hash,
                data_fingerprint=self._fingerprint,
                environment=study_environment() | (self.folder.read_state() or {}).get("environment", {}),
                started_at=self._created_at,
            )
        )

    def trials(self) -> dict[str, TrialFolder]:
        """The folders of all trials that were started, by key; those that cannot be read become warnings."""
        damaged: list[str] = []
        found = {trial.path.name: trial for trial in self.folder.trials(damaged)}
        self._unreadable |= {message: message for message in damaged}
        return found

    def show(self, trial: TrialFolder) -> None:
        """Record the present state of a trial; one with damaged files becomes a warning.

        Raises:
            TrackingError: The tracker cannot be used.
        """
        key = trial.path.name
        try:
            config, result, rows = trial.read_start(), trial.read_result(), trial.read_history()
        except StudyStateError as error:
            self._unreadable[key] = str(error)
            return
        self._unreadable.pop(key, None)
        if config is None:
            return
        if result:
            trial.fetch()
        files = [trial.files.result, trial.files.model, trial.files.predictions, trial.files.pair_predictions]
        tested = result is not None and result.status == "completed" and config.phase == "final"
        self.tracker.record(
            RunView(
                key=key,
                label=config.label,
                method=config.method.name,
                phase=config.phase,
                number=trial.number,
                seed=config.seed,
                title=run_title(self._plan, config),
                parameters=_flat(config),
                rows=rows,
                result=result,
                artifacts=[path for path in files if path.exists()] if result else (),
                data=self._data(config) if tested else None,
            )
        )

    def outcome(self) -> StudyResults | None:
        """The results of a finished study with all readable runs; None if the study has no summary yet.

        Raises:
            StudyStateError: The summary is damaged.
        """
        summary = self.folder.read_summary()
        if summary is None:
            return None
        runs: list[RunResult] = []
        histories: dict[str, tuple[dict[str, float], ...]] = {}
        for key, trial in self.trials().items():
            try:
                result, rows = trial.read_result(), trial.read_history()
            except StudyStateError as error:
                self._unreadable[key] = str(error)
                continue
            if result is not None:
                runs.append(result)
                histories[key] = tuple(rows)
        return StudyResults(summary=summary, runs=tuple(runs), histories=histories)

    def close(self, results: StudyResults) -> None:
        """Record the results: summary, figures, report, findings, and one model of each method.

        Raises:
            TrackingError: The tracker cannot be used.
        """
        files = [self.folder.files.source, self.folder.files.summary, self.folder.files.report]
        self.tracker.close_study(
            results,
            [path for path in files if path.exists()],
            outcome_figures(results),
            findings(results.summary),
            list(self._models(results)),
        )

    @property
    def warnings(self) -> list[str]:
        """Runs with damaged files, and what the tracker could not record, one sentence each."""
        return [*self._unreadable.values(), *self.tracker.warnings]

    def _data(self, config: TrialConfig) -> DataView | None:
        try:
            facts = dataset_facts(config.dataset.model_dump_json())
        except IpglError as error:  # this machine may not have the data's files
            self._unreadable["data"] = f"the data set is not shown in MLflow: {error}"
            return None
        return DataView(
            name=config.dataset.name,
            fingerprint=facts.fingerprint,
            settings=config.dataset.settings,
            input_shape=facts.input_shape,
            class_names=facts.class_names,
            attribute_names=facts.attribute_names,
        )

    def _models(self, results: StudyResults) -> Iterator[ModelView]:
        """One model of each method, that of the final run with the lowest seed: no test result selects it."""
        finals = [run for run in results.runs if run.phase == "final" and run.status == "completed"]
        for label in dict.fromkeys(run.label for run in finals):
            run = min((run for run in finals if run.label == label), key=lambda run: run.seed)
            data = self._data(TrialConfig.model_validate(run.config))
            if data is not None:
                yield ModelView(label, run.trial, _loader(self.folder.trial(run.trial)), data.class_names)


def outcome_figures(results: StudyResults) -> dict[str, Figure]:
    """Plotly figures of a study's results by file name.

    These are some of the report's figures, because each file includes plotly.js (5 MB).
    """
    figures = {
        "robustness": robustness_figure(results),
        "worst-case": robustness_figure(results, "worst_case_tv"),
        "invariance": invariance_figure(results),
        "trials": trials_figure(results),
        "learning": learning_figure(results),
    }
    for run in diagnosed_runs(results):
        figures[f"convergence-{run.method.label}"] = convergence_figure(run, f"How {run.key} converged")
    return figures


def _loader(trial: TrialFolder) -> Callable[[], tuple[nn.Module, NDArray[np.float32]]]:
    def load() -> tuple[nn.Module, NDArray[np.float32]]:
        config = TrialConfig.model_validate(trial.require_result().config)
        inputs = trial_dataset(config).test.x[:_EXAMPLES]
        return load_model(trial.path), inputs.cpu().numpy().astype(np.float32)

    return load


def _flat(config: TrialConfig) -> dict[str, object]:
    """A trial's settings of method, training, model and data set by dotted keys; the method's have no prefix."""
    flat: dict[str, object] = {"method": config.method.name, "model": config.model.name, "seed": config.seed}
    for prefix, values in (
        ("", config.method.settings),
        ("training.", config.training.model_dump(mode="json")),
        ("model.", config.model.settings),
        ("dataset.", config.dataset.settings),
    ):
        flat |= flatten(values, prefix)
    return flat
