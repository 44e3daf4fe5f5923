"""Components of variance: the effect of redrawn weights, pairs or data on a method's test accuracy.

Final run k draws every varied source afresh; a component run repeats it with source c alone drawn again. With D the
difference of their accuracies, half the mean of D^2 over runs is unbiased for the *total effect* of c,
`E[Var(accuracy | all sources but c)]` (Jansen 1999; Saltelli et al. 2010, table 2 (f)). An interaction counts for each
source that takes part in it, so that total effects may add up to more than the variance of all sources together.

Accuracies are measured on finitely many test examples, which inflates D^2. Two runs tested on the *same* examples have,
with the models fixed and the examples of group g drawn at random,

    E[D^2] = (sum_g w_g delta_g)^2 + sum_g w_g^2 Var_g(y - y') / n_g,

where y and y' say whether each run classifies an example correctly and delta_g is the groups' true difference. The
second term, with the sample variance over the group's examples (n_g - 1 below), is unbiased and is subtracted. Where
the test examples were drawn again too (source `data`), how the two sets depend on each other is not known: nothing
is subtracted, and the component contains the draw of the test examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ipgl.config import Source
from ipgl.evaluation.aggregate import Tested
from ipgl.evaluation.curves import group_of
from ipgl.evaluation.mixture import mixture_weights
from ipgl.evaluation.run_result import GroupCount
from ipgl.evaluation.study_summary import VarianceComponent

Array = NDArray[np.float64]

METRICS = ("shifted_accuracy", "average", "worst_group")


@dataclass(frozen=True)
class RedrawnRun:
    """A final run, and the component run that differs from it in one source."""

    source: Source
    original: Tested
    repeated: Tested


def variance_components(
    finals: Sequence[Tested], redrawn: Sequence[RedrawnRun], target_severity: float, confidence: float
) -> tuple[VarianceComponent, ...]:
    """Each source's total effect on each of `METRICS`, and all sources together by the spread of the final runs.

    Args:
        finals: A method's final runs, all sources drawn afresh in each.
        redrawn: Final runs with their repetitions.
        target_severity: Where `shifted_accuracy` lies on the mixture curve.
        confidence: Level of the intervals.

    Returns:
        By source, then metric; a source without a pair of runs is left out, and so is `all` below two final runs.
    """
    pairs: dict[Source, list[tuple[Tested, Tested]]] = {}
    for one in redrawn:
        pairs.setdefault(one.source, []).append((one.original, one.repeated))
    found = [
        _component(source, metric, own, len(own), len(own), target_severity, confidence)
        for source, own in pairs.items()
        for metric in METRICS
    ]
    if len(finals) > 1:
        # The sample variance is half the mean squared difference over all pairs.
        every = list(combinations(finals, 2))
        found += [
            _component("all", metric, every, len(finals), len(finals) - 1, target_severity, confidence)
            for metric in METRICS
        ]
    return tuple(found)


def no_effect(source: Source) -> tuple[VarianceComponent, ...]:
    """The components of a source that a method's training does not read: 0, without a run."""
    return tuple(
        VarianceComponent(
            source=source,
            metric=metric,
            deviation=0.0,
            low=0.0,
            high=0.0,
            variance=0.0,
            noise=0.0,
            runs=0,
            same_examples=True,
        )
        for metric in METRICS
    )


def squared_difference(a: Tested, b: Tested, metric: str, target_severity: float) -> tuple[float, float]:
    """The squared difference of two runs' accuracies, and how much of it test examples are expected to make.

    For `worst_group` the second is that of the two groups which are worst in the runs, to first order.

    Returns:
        `(D^2, noise)`; noise is 0 where the runs were tested on different examples. Both are NaN where a group that
        counts is empty, and noise where it has one example.
    """
    weights = [_weights(tested.run.groups, metric, target_severity) for tested in (a, b)]
    accuracies = [np.array([group.accuracy for group in tested.run.groups]) for tested in (a, b)]
    first, second = (float(w[w != 0] @ acc[w != 0]) for w, acc in zip(weights, accuracies, strict=True))
    square = (first - second) ** 2
    if a.examples != b.examples:
        return square, 0.0
    group = group_of(a.predictions, a.run.groups)
    z = weights[0][group] * a.predictions.correct - weights[1][group] * b.predictions.correct
    return square, _variance_of_sum(z, group, (weights[0] != 0) | (weights[1] != 0))


def deviation_interval(
    mean_square: float, noise: float, degrees: int, confidence: float
) -> tuple[float, float]:
    """Interval of a standard deviation whose variance, plus a known noise, is estimated by a mean square.

    `degrees * mean_square / (variance + noise)` is taken as chi-squared, which it is if the effects are normal; the
    noise is subtracted from both ends, and what is below 0 is 0. An upper end of 0 says that runs differed less than
    the test examples alone would make them. Runs that share their test examples have noises that go together a
    little: in simulations with normal effects and five pairs of runs, 95% intervals cover 94 to 95% with 400 test
    examples, and down to 93% with 120.

    Args:
        mean_square: Estimates `variance + noise`.
        noise: Variance from test examples.
        degrees: Degrees of freedom.
        confidence: Level.
    """
    from scipy.stats import chi2  # half a second to import: not where a model is only trained

    tail = (1 - confidence) / 2
    low, high = (degrees * mean_square / chi2.ppf(q, degrees) - noise for q in (1 - tail, tail))
    return _root(float(low)), _root(float(high))


def _component(
    source: Source | Literal["all"],
    metric: str,
    pairs: Sequence[tuple[Tested, Tested]],
    runs: int,
    degrees: int,
    target_severity: float,
    confidence: float,
) -> VarianceComponent:
    squares = np.array([squared_difference(a, b, metric, target_severity) for a, b in pairs])
    mean_square, noise = (float(value) for value in squares.mean(axis=0) / 2)
    variance = mean_square - noise
    low, high = deviation_interval(mean_square, noise, degrees, confidence)
    return VarianceComponent(
        source=source,
        metric=metric,
        deviation=_root(variance),
        low=low,
        high=high,
        variance=variance,
        noise=noise,
        runs=runs,
        same_examples=all(a.examples == b.examples for a, b in pairs),
    )


def _weights(groups: Sequence[GroupCount], metric: str, target_severity: float) -> Array:
    """Weights `[G]` under which the metric is a sum of group accuracies."""
    if metric == "shifted_accuracy":
        target: Array = mixture_weights(groups, [target_severity])[0]
        return target
    counts = np.array([group.count for group in groups], dtype=np.float64)
    if metric == "average":
        shares: Array = counts / counts.sum()
        return shares
    accuracies = np.array([group.accuracy for group in groups])
    weights = np.zeros(len(groups))
    # An empty group's accuracy is NaN, and so is the worst group's: `argmin` stops at the first NaN.
    weights[int(np.argmin(accuracies))] = 1.0
    return weights


def _variance_of_sum(z: Array, group: NDArray[np.int64], counted: NDArray[np.bool_]) -> float:
    """`sum_g Var_g(z) / n_g` over the groups that count; NaN if one of them has fewer than two examples."""
    n = np.bincount(group, minlength=len(counted)).astype(np.float64)
    if (n[counted] < 2).any():
        return math.nan
    means = np.bincount(group, weights=z, minlength=len(n)) / np.maximum(1, n)
    squares = np.bincount(group, weights=(z - means[group]) ** 2, minlength=len(n))
    return float((squares[counted] / (n[counted] - 1) / n[counted]).sum())


def _root(variance: float) -> float:
    return math.nan if math.isnan(variance) else math.sqrt(max(0.0, variance))
