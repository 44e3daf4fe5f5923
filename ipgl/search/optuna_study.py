"""One label's search as an Optuna study: it proposes settings, and learns from what is reported of them.

Optuna is used through its ask-and-tell interface. Its study lives in memory: a resumed search is a new study, which is
told of the trials on storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from ipgl.config import Range
from ipgl.config.ranges import Scalar
from ipgl.search.space import distributions


class SearchStudy:
    """Proposals for one label, each known by a key of the caller's. Scores are maximised."""

    def __init__(
        self, space: Mapping[str, Range], sampler: BaseSampler, first: Sequence[Mapping[str, Scalar]] = ()
    ) -> None:
        """Begin without trials.

        Args:
            space: Dotted key -> range; not empty.
            sampler: What `make_sampler` gives.
            first: Points to propose before any other, in this order.
        """
        self._space = distributions(space)
        self._study = optuna.create_study(
            sampler=sampler, pruner=optuna.pruners.NopPruner(), direction="maximize"
        )
        self._asked: dict[str, optuna.trial.Trial] = {}
        self._steps: dict[str, int] = {}
        for point in first:
            self._study.enqueue_trial(dict(point))

    def add(self, parameters: Mapping[str, Any], score: float) -> None:
        """Add a trial that has ended in an earlier session."""
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=score,
                params=dict(parameters),
                distributions=self._space,
            )
        )

    def ask(self, key: str) -> dict[str, Any]:
        """The settings of trial `key`; the same ones if it is asked for again."""
        if key not in self._asked:
            self._asked[key] = self._study.ask(fixed_distributions=self._space)
        return dict(self._asked[key].params)

    def report(self, key: str, score: float, evaluation: int) -> None:
        """Report a running trial's score; a trial that was started again repeats evaluations, which are passed over."""
        if evaluation > self._steps.get(key, -1):
            self._steps[key] = evaluation
            self._asked[key].report(score, evaluation)

    def tell(self, key: str, score: float | None) -> None:
        """End a trial; None if it has failed without a score."""
        trial = self._asked.pop(key, None)
        if trial is None:
            return
        if score is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, score)
