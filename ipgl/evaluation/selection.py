"""Selection rules: one number per trial, from validation metrics alone; the larger the better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ipgl.evaluation.result import RunResult


@dataclass(frozen=True)
class SelectionRule:
    """How trials are ranked while they train, and how a winner is chosen among completed ones.

    Attributes:
        score: Ranks trials for sampler and scheduler, from validation metrics, in [0, 1].
        needs_groups: Whether it needs group labels on the validation split.
        needs_pairs: Whether it needs held-out pairs.
        oracle: Whether the choice among completed trials reads test data; every table says so.
    """

    score: Callable[[Mapping[str, float]], float]
    needs_groups: bool = False
    needs_pairs: bool = False
    oracle: bool = False

    def choice(self, run: RunResult) -> float:
        """What a completed trial is chosen by: the score, or for an oracle the shifted test accuracy."""
        return run.metrics["shifted_accuracy"] if self.oracle else self.score(run.validation)


def pair_robust(validation: Mapping[str, float]) -> float:
    """Validation accuracy x (1 - flip rate on held-out pairs): needs neither group labels nor test data."""
    return validation["accuracy"] * (1.0 - validation["flip_rate"])


def average(validation: Mapping[str, float]) -> float:
    """Validation accuracy, as most searches use it; it favours the spurious attribute where validation has it."""
    return validation["accuracy"]


def worst_group(validation: Mapping[str, float]) -> float:
    """Lowest accuracy over the validation split's groups; NaN if one of them is empty."""
    return validation["worst_group"]


SELECTION_RULES: dict[str, SelectionRule] = {
    "pair_robust": SelectionRule(pair_robust, needs_pairs=True),
    "average": SelectionRule(average),
    "worst_group": SelectionRule(worst_group, needs_groups=True),
    # Sampler and scheduler still follow pair_robust: even here no search or stop reads the test split.
    "oracle_test": SelectionRule(pair_robust, needs_pairs=True, oracle=True),
}
