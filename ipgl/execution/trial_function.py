"""The trials of one phase as their processes receive them, and the rows that they report to Tune."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypedDict, cast

import torch

from ipgl.config import Phase, TrialConfig
from ipgl.config.ranges import Scalar
from ipgl.evaluation import Failure, RunResult
from ipgl.evaluation.selection import LOWEST_SCORE
from ipgl.execution.shared_data import take_datasets
from ipgl.plan.study_plan import StudyPlan
from ipgl.storage.study_dir import StudyFolder
from ipgl.trial.user_code import load_imports

SCORE: Final = "score"
# Storage that is away comes back sooner or later, and a process is there again at once.
STORAGE_PAUSE_SECONDS = 5.0
ENDED: Final = "ended"  # marks a trial's last row


class TuneResult(TypedDict, total=False):
    """A reported row with what Tune adds to it, as far as it is read."""

    score: float
    training_iteration: int
    ended: float
    pid: int


@dataclass(frozen=True)
class TrialFunction:
    """The trials of one phase, as their processes know them.

    Attributes:
        plan: The study.
        folder: The study's folder, as seen from every node.
        phase: `search` draws hyperparameters for `label`; the others run the configurations in `finals`.
        finals: Configuration of each final or component run.
        datasets: References that `ipgl.execution.shared_data.put_datasets` returned.
    """

    plan: StudyPlan
    folder: StudyFolder
    phase: Phase
    label: str = ""
    finals: tuple[TrialConfig, ...] = ()
    datasets: Mapping[str, object] = field(default_factory=dict)

    def config(self, parameters: Mapping[str, Scalar]) -> TrialConfig:
        """The trial that Tune's parameters stand for."""
        if self.phase != "search":
            return self.finals[cast(int, parameters["final"])]
        return self.plan.trial(self.label, parameters, "search", self.plan.config.search.seed)

    def load_imports(self) -> None:
        """Load what the study imports into this process."""
        if self.plan.config.imports:
            self.folder.fetch()
        load_imports(self.plan.config.imports, self.folder.path)

    def prepare(self) -> None:
        """Load what the study imports, and take the data sets that trials share from the object store."""
        self.load_imports()
        take_datasets(self.datasets)

    def set_threads(self) -> None:
        """Let PyTorch use as many threads as the trial has CPUs."""
        torch.set_num_threads(max(1, int(self.plan.config.resources.cpus_per_worker)))


def last_row(config: TrialConfig, result: RunResult) -> dict[str, float]:
    """The last row that a trial reports. Its result is on storage by then, for a scheduler that ends the trial on it.

    A failed trial scores the least that any rule gives, so that the search learns to stay away.
    """
    score = LOWEST_SCORE if result.status == "failed" else finite_score(result.score)
    return {SCORE: score, "training_iteration": config.training.evaluations, ENDED: 1.0}


def finite_score(score: float) -> float:
    """A score for searcher and scheduler, the least one if it is not finite: Optuna would wait for ever on NaN."""
    return score if math.isfinite(score) else LOWEST_SCORE


class RowReporter:
    """Reports every row but the last, by its evaluation's number since the run's beginning (not since a restart)."""

    def __init__(self, epochs: int, tell: Callable[[dict[str, float]], object]) -> None:
        """Report to `tell`, for a run of so many epochs."""
        self._epochs, self._tell = epochs, tell

    def report(self, row: dict[str, float]) -> None:
        """Pass on the score and which evaluation it is."""
        if row["epoch"] < self._epochs:
            self._tell({SCORE: finite_score(row[SCORE]), "training_iteration": int(row["evaluation"])})


def failure_of(cause: BaseException, traceback: str) -> Failure:
    """The record of a trial that could not make its own."""
    message = next((line for line in reversed(str(cause).splitlines()) if line.strip()), repr(cause))
    return Failure(kind=type(cause).__name__, message=message.strip(), traceback=traceback)


def quiet_environment() -> dict[str, str]:
    """Switches that keep Ray's own output out of the study's display."""
    return {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore"),
    }
