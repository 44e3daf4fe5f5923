"""Selection rules: one score per trial, from validation metrics alone; higher is better.

Methods for robustness to spurious correlations are mostly selected by the accuracy of the validation split's minority
groups. That needs group labels, and where the correlation is strong there are so few such examples that choices by
them are statistically unreliable (Delzer and Bender 2026, arXiv 2604.04518). The default rule needs neither: it asks
held-out invariance pairs how much the prediction follows the attribute, and the labels how much it knows at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ipgl.evaluation.run_result import RunResult

LOWEST_SCORE = -1.0
"""No rule gives less; what a failed trial, or one without a score, is worth to sampler and scheduler."""

INVARIANCE_POWER = 2
"""Of (1 - flip rate) in `pair_robust`."""


@dataclass(frozen=True)
class SelectionRule:
    """Score that ranks trials during the search, and criterion that selects a winner among completed ones.

    Attributes:
        score: Ranks trials for sampler and scheduler, from validation metrics, in [-1, 1]; NaN where a metric that it
            reads is unknown.
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
    """Cohen's kappa on validation x (1 - flip rate on held-out pairs)^2; kappa alone where it is not above 0.

    Needs neither group labels nor test data. Kappa is the accuracy corrected for chance, so that predictions that do
    not depend on the label earn nothing, for any number and balance of classes: accuracy x (1 - flip rate) gives a
    constant predictor the majority's share, since a constant never flips. A kappa below 0 is not multiplied: flips
    would raise it.

    Why not the skill above the best constant, `(accuracy - majority) / (1 - majority)`? It is 0 for the constant but
    not for every uninformed prediction, and it misjudges rare classes. Of 1,000 examples 50 are positive; a detector
    finds 40 of them at 60 false alarms. Its accuracy is 0.93, below the constant's 0.95, so that its skill is
    (0.93 - 0.95) / 0.05 = -0.4: worse than answering "negative" always. By chance, 100 positive answers would agree in
    0.05 x 0.1 + 0.95 x 0.9 = 0.86 of the examples, so that its kappa is (0.93 - 0.86) / 0.14 = 0.5.

    Why the square? Let a model follow the attribute on a share f of the inputs, which are those that flip, so that its
    kappa is `(1 - f) * content + f * attribute`. Where the attribute misleads as much as it helps on validation, it
    becomes `(1 - f) * content - f * attribute`: less by `2 * f * attribute`, or about `2 * f * kappa`. To first order
    `(1 - f)^2` says the same, and it stays above 0, so that honest training ranks above a constant. Without the square
    kappa's gain from the attribute, twice that of the accuracy and more, can outweigh the flips.

    The product has a limit. With f the same model's kappa grows from `content` to `attribute`, and the invariant one
    (f = 0) scores highest as long as `attribute <= 3 * content`.
    """
    kappa, flip_rate = validation.get("kappa", math.nan), validation["flip_rate"]
    if math.isnan(flip_rate):
        return math.nan
    return kappa * (1.0 - flip_rate) ** INVARIANCE_POWER if kappa > 0 else kappa


def pair_accuracy(validation: Mapping[str, float]) -> float:
    """Validation accuracy x (1 - flip rate), without correction for chance: a constant scores the majority's share."""
    return validation["accuracy"] * (1.0 - validation["flip_rate"])


def average(validation: Mapping[str, float]) -> float:
    """Validation accuracy, as most searches use it; it favours the spurious attribute where validation has it."""
    return validation["accuracy"]


def worst_group(validation: Mapping[str, float]) -> float:
    """Lowest accuracy over the validation split's groups; NaN if one of them is empty."""
    return validation["worst_group"]


SELECTION_RULES: dict[str, SelectionRule] = {
    "pair_robust": SelectionRule(pair_robust, needs_pairs=True),
    "pair_accuracy": SelectionRule(pair_accuracy, needs_pairs=True),
    "average": SelectionRule(average),
    "worst_group": SelectionRule(worst_group, needs_groups=True),
    # Sampler and scheduler use pair_robust, so that even here search and early stopping never read the test split.
    "oracle_test": SelectionRule(pair_robust, needs_pairs=True, oracle=True),
}
