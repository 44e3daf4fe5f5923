"""A label's search trials on storage, and the searcher and scheduler that continue from them.

Storage is the truth, not Tune's own snapshots: a resumed search is a new Tune run whose searcher and scheduler are
given the trials on storage. So a trial that Tune's last snapshot missed is not lost, and successive halving keeps its
rungs (Tune's own restore loses them, ray#30838).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace

from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from ipgl.config import TrialConfig
from ipgl.config.ranges import Scalar
from ipgl.data import derive_seed
from ipgl.evaluation import RunResult
from ipgl.evaluation.selection import LOWEST_SCORE
from ipgl.execution.trial_function import SCORE, TuneResult, finite_score
from ipgl.plan.study_plan import StudyPlan
from ipgl.search import SearchStudy, make_sampler
from ipgl.storage.study_dir import StudyFolder


@dataclass(frozen=True)
class SearchHistory:
    """A label's search trials on storage.

    Attributes:
        ended: Results of those that have ended.
        begun: Settings of those that have begun and not ended.
        histories: Evaluation rows of those that have ended, by key.
    """

    ended: list[RunResult]
    begun: list[dict[str, Scalar]]
    histories: dict[str, list[dict[str, float]]]

    @classmethod
    def read(cls, folder: StudyFolder, label: str) -> SearchHistory:
        """Read a label's trials."""
        ended: list[RunResult] = []
        begun: list[dict[str, Scalar]] = []
        histories: dict[str, list[dict[str, float]]] = {}
        for trial in folder.trials():
            start = trial.read_start()
            if start is None or start.label != label or start.phase != "search":
                continue
            result = trial.read_result()
            if result is None:
                begun.append(start.hyperparameters)
            else:
                ended.append(result)
                histories[result.trial] = trial.read_history()
        return cls(ended, begun, histories)

    def with_lost(self, configs: Iterable[TrialConfig]) -> SearchHistory:
        """The same, with these trials among those that have begun."""
        lost = [config.hyperparameters for config in configs]
        return replace(self, begun=[*self.begun, *(point for point in lost if point not in self.begun)])


class TuneSearcher(Searcher):  # type: ignore[misc]
    """A `SearchStudy` as Tune asks it."""

    def __init__(self, study: SearchStudy) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._study = study

    def suggest(self, trial_id: str) -> dict[str, Scalar]:
        """The settings of a new trial."""
        return self._study.ask(trial_id)

    def on_trial_result(self, trial_id: str, result: TuneResult) -> None:
        """A trial has reported."""
        self._study.report(trial_id, result[SCORE], int(result["training_iteration"]))

    def on_trial_complete(self, trial_id: str, result: TuneResult | None = None, error: bool = False) -> None:
        """A trial has ended."""
        self._study.tell(trial_id, result.get(SCORE) if result else None)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: storage has the trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a resumed search is a new one."""


def make_searcher(plan: StudyPlan, label: str, history: SearchHistory) -> TuneSearcher | None:
    """The searcher of a label that goes on from its history; None for a label without ranges."""
    method, search = plan.method(label), plan.config.search
    if not method.space:
        return None
    tried = [run.hyperparameters for run in history.ended]
    first = [point for point in history.begun if point not in tried]
    first += [point for point in method.start if point not in (*tried, *first)]
    # Resumed or not, the draws depend on seed and history alone; the same seed again would repeat them.
    seed = search.seed if not history.ended else derive_seed(search.seed, label, len(history.ended)) % 2**32
    study = SearchStudy(method.space, make_sampler(search.sampler, seed, search.startup_trials), first)
    for run in history.ended:
        study.add(run.hyperparameters, LOWEST_SCORE if run.status == "failed" else finite_score(run.score))
    return TuneSearcher(study)


def make_scheduler(plan: StudyPlan, history: SearchHistory) -> TrialScheduler | None:
    """The study's scheduler, which has been given the history; None if the study has none."""
    settings = plan.config.search.scheduler
    if settings.name == "none":
        return None
    scheduler = ASHAScheduler(
        time_attr="training_iteration",
        metric=SCORE,
        mode="max",
        max_t=max(plan.config.training.evaluations, settings.grace_evaluations + 1),
        grace_period=settings.grace_evaluations,
        reduction_factor=settings.reduction_factor,
    )
    for key, rows in history.histories.items():
        trial = SimpleNamespace(trial_id=key)
        scheduler.on_trial_add(None, trial)
        for row in rows:
            result = {SCORE: finite_score(row[SCORE]), "training_iteration": int(row["evaluation"])}
            scheduler.on_trial_result(None, trial, result)
    return scheduler
