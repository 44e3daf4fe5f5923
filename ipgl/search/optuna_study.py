"""The hyperparameter search of one label as an Optuna study, through Optuna's ask-and-tell interface.

The Optuna study is kept in memory only. To resume a search, a new one is made, and the trials on
storage are added to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from ipgl.config import Range
from ipgl.config.ranges import Scalar
from ipgl.search.space import distributions


class SearchStudy:
    """An Optuna study that maximises the score; the caller identifies its trials by keys."""

    def __init__(
        self, space: Mapping[str, Range], sampler: BaseSampler, first: Sequence[Mapping[str, Scalar]] = ()
    ) -> None:
        """Create a study without trials.

        Args:
            space: Search range by dotted key; not empty.
            sampler: The sampler, from `make_sampler`.
            first: Hyperparameters that are proposed before any others, in this order.
        """
        self._space = distributions(space)
        self._study = optuna.create_study(
            sampler=sampler, pruner=optuna.pruners.NopPruner(), direction="maximize"
        )
        self._asked: dict[str, optuna.trial.Trial] = {}
        self._steps: dict[str, int] = {}
        for point in first:
            self._study.enqueue_trial(dict(point))

    def add(self, parameters: Mapping[str, Scalar], score: float) -> None:
        """Add a trial that ended before this study was created."""
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=score,
                params=dict(parameters),
                distributions=self._space,
            )
        )

    def ask(self, key: str) -> dict[str, Scalar]:
        """Propose hyperparameters for trial `key`; while it runs, further calls return the same ones."""
        if key not in self._asked:
            self._asked[key] = self._study.ask(fixed_distributions=self._space)
        return dict(self._asked[key].params)

    def report(self, key: str, score: float, evaluation: int) -> None:
        """Report a running trial's score after an evaluation; those that a restarted trial repeats are ignored."""
        if evaluation > self._steps.get(key, -1):
            self._steps[key] = evaluation
            self._asked[key].report(score, evaluation)

    def tell(self, key: str, score: float | None) -> None:
        """End a trial with its final score; None if it failed without one."""
        trial = self._asked.pop(key, None)
        if trial is None:
            return
        if score is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, score)
