"""Confidence intervals for mean accuracies and for differences between methods, and tests of such differences.

Intervals are about the *method*: training seeds and test examples are both random. With a single run they are about
that trained model, and only test examples are random. `docs/concepts/statistics.md` derives them and shows their
simulated coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipgl.evaluation.sampling_variance import OutcomeSample, WeightedMeans, unseen_variance

Array = NDArray[np.float64]


def mean_interval(means: WeightedMeans, tail: float | Array) -> tuple[Array, Array]:
    """Interval of each weighted mean accuracy, `[W]` and `[W]`, that leaves out `tail` on either side.

    Wilson's score interval (1927) for as many independent examples as the mean's variance corresponds to, with a
    quantile of Student's t, as for proportions in surveys (Korn and Graubard 1998). The degrees of freedom are
    `(S - 1) / share`, where `share` is the part of the variance that shows as differences between runs:
    Satterthwaite's `(S - 1) / share^2` is too large when few runs happen to differ little.
    """
    quantile = student_quantile(_degrees(means), tail)
    size, mean = means.size, means.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (mean + quantile**2 / (2 * size)) / (1 + quantile**2 / size)
        half = (
            quantile
            * np.sqrt(mean * (1 - mean) / size + (quantile / (2 * size)) ** 2)
            / (1 + quantile**2 / size)
        )
    # Where rounding would leave the mean outside its own interval, the mean is the end.
    return np.clip(np.minimum(centre - half, mean), 0, 1), np.clip(np.maximum(centre + half, mean), 0, 1)


@dataclass(frozen=True)
class Differences:
    """Differences between two methods' weighted mean accuracies, for W sets of weights.

    Attributes:
        mean: `[W]`; NaN where an empty group has weight.
        error: Standard error, `[W]`.
        degrees: Degrees of freedom, `[W]`; NaN where a method has one run, so that nothing can be said of methods.
    """

    mean: Array
    error: Array
    degrees: Array

    def interval(self, alpha: float | Array) -> tuple[Array, Array]:
        """Interval at confidence `1 - alpha`, `[W]` and `[W]`; of the trained models where a method has one run."""
        degrees = np.where(np.isnan(self.degrees), np.inf, self.degrees)
        reach = student_quantile(degrees, np.asarray(alpha) / 2) * self.error
        return np.clip(self.mean - reach, -1, 1), np.clip(self.mean + reach, -1, 1)

    @property
    def p_value(self) -> Array:
        """Two-sided p-value of no difference between the methods, `[W]`: below alpha if the interval excludes 0.

        NaN where a method has one run.
        """
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.where(self.mean == 0, 0.0, np.abs(self.mean) / self.error)
        p: Array = 2 * stdtr(self.degrees, -statistic)
        return p


def differences(
    a: OutcomeSample, b: OutcomeSample, weights: Array, weights_b: Array | None = None
) -> Differences:
    """Differences `a - b` of weighted means.

    Runs are independent between methods (their seeds are numbers, not conditions), while shared test examples are
    paired: what is hard for both cancels. Where every run has test examples of its own and both methods have the
    same ones, runs are paired by them. The degrees of freedom are Satterthwaite's, as in Welch's test (1947); the
    variance from the examples is taken as known, since there are many more examples than runs.

    Args:
        a: The first method's runs.
        b: The second's.
        weights: Weight of each group, `[W, G]`.
        weights_b: Those of the second method where it was tested on groups of other sizes.
    """
    own = weights if weights_b is None else weights_b
    if not a.shared and sorted(a.examples) == sorted(b.examples) and len(set(a.examples)) == a.runs:
        return _paired_by_run(a, b, weights, own)
    first, second = a.weighted(weights), b.weighted(own)
    if a.shared and b.shared and a.examples[0] == b.examples[0]:
        examples = _paired_example_variance(a, b, weights)
    else:
        examples = first.examples + second.examples
    variance = first.between + second.between + examples
    if min(a.runs, b.runs) < 2:
        degrees = np.full(len(weights), math.nan)
    else:
        uncertain = first.between**2 / (first.runs - 1) + second.between**2 / (second.runs - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            degrees = variance**2 / uncertain
        degrees = np.where(np.isnan(degrees), np.inf, degrees)
    return Differences(first.mean - second.mean, np.sqrt(variance), degrees)


def _paired_example_variance(a: OutcomeSample, b: OutcomeSample, weights: Array) -> Array:
    """Variance of the difference from the draw of the shared examples, `[W]`."""
    between_means = a.means - b.means
    counts, groups = a.counts, len(a.counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.bincount(a.group, weights=between_means, minlength=groups) / counts
        spread = np.bincount(a.group, weights=(between_means - centre[a.group]) ** 2, minlength=groups)
        paired = np.where(counts > 1, spread / (counts - 1) / counts, 0.0)
    alike = (paired < 1e-18) & (a.values == a.values[0]).all(axis=0) & (b.values == b.values[0]).all(axis=0)
    # Methods that answer every example alike do not differ; others may, by examples that the test split lacks.
    same = np.bincount(a.group, weights=between_means != 0, minlength=groups) == 0
    squared = weights**2
    unseen = squared @ (alike * ~same * unseen_variance(counts))
    result: Array = np.maximum(squared @ (paired - a.rest_variance - b.rest_variance), 0.0) + unseen
    return result


def _paired_by_run(a: OutcomeSample, b: OutcomeSample, weights: Array, weights_b: Array) -> Differences:
    order = [b.examples.index(name) for name in a.examples]
    of_runs = a.run_means(weights) - b.run_means(weights_b)[order]
    error = np.sqrt(of_runs.var(axis=0, ddof=1) / a.runs)
    return Differences(of_runs.mean(axis=0), error, np.full(len(weights), float(a.runs - 1)))


@dataclass(frozen=True)
class Holm:
    """Holm's step-down correction (1979) of a family of p-values.

    Attributes:
        adjusted: Corrected p-values, `[M]`: below alpha where the family-wise error rate alpha allows to reject.
        levels: For each, the alpha whose uncorrected interval excludes the null value exactly if it is rejected, `[M]`.
    """

    adjusted: Array
    levels: Array


def holm(p_values: Sequence[float], alpha: float) -> Holm:
    """Correct p-values `[M]` for their number; NaN ones are no part of the family and keep the level alpha."""
    p = np.asarray(p_values, dtype=np.float64)
    order = [i for i in np.argsort(p, kind="stable") if not math.isnan(p[i])]
    adjusted, levels = np.full(len(p), math.nan), np.full(len(p), alpha)
    highest, stopped = 0.0, 0.0
    for rank, i in enumerate(order):
        remaining = len(order) - rank
        highest = max(highest, min(1.0, remaining * p[i]))
        adjusted[i] = highest
        levels[i] = stopped or alpha / remaining
        if p[i] >= levels[i]:
            stopped = levels[i]  # nothing behind the first that stands can be rejected
    return Holm(adjusted, levels)


def student_quantile(degrees: Array, tail: float | Array) -> Array:
    """The quantile of Student's t that leaves `tail` above it, `[W]`; infinite degrees are the normal distribution."""
    from scipy.special import stdtrit

    quantile: Array = -stdtrit(degrees, np.asarray(tail))
    return quantile


def _degrees(means: WeightedMeans) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = (means.runs - 1) * means.variance / means.between
    return np.where(means.between > 0, degrees, np.inf)
