"""Mean outcomes of several runs and their sampling variance, between runs and between test examples.

All runs of a study are usually tested on the same examples, so that an example that is hard for one run is hard for
the next. The outcome of run `s` on example `i` of a group then has two crossed random parts,

    y[s, i] = mean + run[s] + example[i] + rest[s, i],

as scores of readers and cases have in diagnostic studies (Obuchowski and Rockette 1995). The variance of the mean
over S runs and n examples is `var(run) / S + var(example) / n + var(rest) / (S n)`. The variance between the runs'
means, divided by S, estimates the first and the third term; the variance between the examples' means, divided by n,
estimates the second and the third; what both hold, `var(rest) / (S n)`, is estimated from the residuals and taken out
of the second. Groups are strata: their sizes are fixed, and a weighted mean of groups has the weighted sum of their
variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipgl.evaluation.run_result import GroupCount

Array = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class WeightedMeans:
    """Means of outcomes over runs, weighted over groups, for W sets of weights.

    Attributes:
        mean: `[W]`; NaN where an empty group has weight.
        between: Variance of the mean that shows as differences between runs, `[W]`; 0 for a single run.
        examples: Further variance from the draw of the test examples that all runs share, `[W]`.
        size: Number of independent examples that `mean (1 - mean) / (between + examples)` corresponds to, `[W]`.
        runs: Number of runs.
    """

    mean: Array
    between: Array
    examples: Array
    size: Array
    runs: int

    @property
    def variance(self) -> Array:
        """Variance of the mean, `[W]`."""
        return self.between + self.examples


@dataclass(frozen=True)
class OutcomeSample:
    """Outcomes in [0, 1] (right or wrong, consistent or not) of S runs on test examples in G groups.

    Attributes:
        values: Mean outcome of each run in each group, `[S, G]`; NaN for an empty group.
        counts: Examples in each group, `[G]`.
        example_variance: Variance between examples' means over runs, divided by the group's size, `[G]`; 0 if every run
            has examples of its own.
        rest_variance: The part of it that is particular to a run and an example, `[G]`; 0 for a single run.
        means: Mean over runs of each shared example, `[N]`; empty if every run has examples of its own.
        group: Group of each shared example, `[N]`.
        examples: Which examples each run was tested on, `[S]`: equal names are the same examples.
    """

    values: Array
    counts: Array
    example_variance: Array
    rest_variance: Array
    means: Array
    group: Groups
    examples: tuple[str, ...]

    @property
    def runs(self) -> int:
        """Number of runs S."""
        return len(self.values)

    @property
    def shared(self) -> bool:
        """Whether all runs were tested on the same examples."""
        return len(set(self.examples)) == 1

    def run_means(self, weights: Array) -> Array:
        """Each run's weighted mean `[S, W]` under weights `[W, G]`; NaN where an empty group has weight."""
        return weighted_accuracy(weights, self.values)

    def weighted(self, weights: Array) -> WeightedMeans:
        """Means over runs, weighted over groups by each row of `weights`, `[W, G]`."""
        of_runs = self.run_means(weights)
        between = _between(of_runs)
        squared = weights**2
        examples = np.maximum(squared @ (self.example_variance - self.rest_variance), 0.0)
        # A group whose outcomes are all alike gives no estimate of their variance: half an example of n + 1
        # is taken to be otherwise.
        alike = (self.example_variance == 0) & (self.values == self.values[0]).all(axis=0)
        examples = examples + squared @ (alike * unseen_variance(self.counts))
        smoothed = weighted_accuracy(weights, _smoothed(self.values.mean(axis=0), self.counts))
        with np.errstate(divide="ignore", invalid="ignore"):
            size = smoothed * (1 - smoothed) / (between + examples)
        return WeightedMeans(of_runs.mean(axis=0), between, examples, size, self.runs)


def sample_outcomes(
    outcomes: NDArray[np.generic], group: Groups, num_groups: int, examples: str = ""
) -> OutcomeSample:
    """The sample of runs that were tested on the same examples.

    Args:
        outcomes: Outcome of each run on each example, `[S, N]`, bool or in [0, 1].
        group: Group of each example, `[N]`.
        num_groups: Number of groups G, empty ones included.
        examples: Name of the examples.
    """
    runs = len(outcomes)
    counts = np.bincount(group, minlength=num_groups).astype(np.float64)
    totals = np.stack([np.bincount(group, weights=row, minlength=num_groups) for row in outcomes])
    means = outcomes.mean(axis=0, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = totals / counts
        of_group = totals.mean(axis=0) / counts
        spread = np.bincount(group, weights=(means - of_group[group]) ** 2, minlength=num_groups)
        example_variance = np.where(counts > 1, spread / (counts - 1) / counts, 0.0)
        # Sum of squares of the residuals y[s, i] - run mean - example mean + mean, without forming them.
        squares = sum(
            np.bincount(group, weights=np.square(row, dtype=np.float64), minlength=num_groups)
            for row in outcomes
        )
        residual = squares - counts * (values**2).sum(axis=0) - runs * spread
        degrees = (runs - 1) * (counts - 1)
        rest_variance = np.where(degrees > 0, np.maximum(residual, 0.0) / degrees / runs / counts, 0.0)
    return OutcomeSample(
        values,
        counts,
        _without_rounding_noise(example_variance),
        _without_rounding_noise(rest_variance),
        means,
        group,
        (examples,) * runs,
    )


def sample_runs(
    outcomes: Sequence[NDArray[np.generic]],
    groups: Sequence[Groups],
    num_groups: int,
    examples: Sequence[str],
) -> OutcomeSample:
    """The sample of runs that were tested on the same examples, or each on some of its own.

    Args:
        outcomes: Of each run, its outcome on each of its examples, `[N]`.
        groups: Of each run, the group of each example, `[N]`.
        num_groups: Number of groups G, empty ones included.
        examples: Of each run, the name of its examples; equal names are the same examples in the same order.
    """
    if len(set(examples)) == 1:
        return sample_outcomes(np.stack(outcomes), groups[0], num_groups, examples[0])
    return _own_examples(
        [
            sample_outcomes(one[None], group, num_groups, name)
            for one, group, name in zip(outcomes, groups, examples, strict=True)
        ]
    )


def _own_examples(samples: Sequence[OutcomeSample]) -> OutcomeSample:
    # How much examples differ is then part of how much runs differ, and must not be counted twice.
    zeros = np.zeros_like(samples[0].counts)
    return OutcomeSample(
        values=np.concatenate([sample.values for sample in samples]),
        counts=np.mean([sample.counts for sample in samples], axis=0),
        example_variance=zeros,
        rest_variance=zeros,
        means=np.zeros(0),
        group=np.zeros(0, dtype=np.int64),
        examples=tuple(name for sample in samples for name in sample.examples),
    )


def sample_counts(groups: Sequence[GroupCount]) -> OutcomeSample:
    """The sample of one run, from its counts of correct predictions."""
    counts = np.array([group.count for group in groups], dtype=np.float64)
    values = np.array([group.accuracy for group in groups])
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(counts > 1, values * (1 - values) / (counts - 1), 0.0)
    nothing = np.zeros_like(counts)
    return OutcomeSample(
        values[None], counts, variance, nothing, np.zeros(0), np.zeros(0, dtype=np.int64), ("",)
    )


def weighted_accuracy(weights: Array, accuracies: Array) -> Array:
    """`weights [W, G]` applied to group accuracies `[..., G]`: `[..., W]`.

    An empty group (NaN) makes every mean in which it has weight NaN, and leaves the others alone.
    """
    known = ~np.isnan(accuracies)
    unknown = (~known).astype(np.float64) @ (weights > 0).astype(np.float64).T
    result: Array = np.where(unknown > 0, np.nan, np.where(known, accuracies, 0.0) @ weights.T)
    return result


def unseen_variance(counts: Array) -> Array:
    """Variance of a group's mean whose n outcomes are all alike, if half an example of n + 1 were otherwise, `[G]`."""
    share = 0.5 / (counts + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Array = np.where(counts > 0, share * (1 - share) / counts, 0.0)
    return result


def _between(of_runs: Array) -> Array:
    """Variance of the mean over runs, `[W]`, from their own means, `[S, W]`."""
    if len(of_runs) < 2:
        return np.zeros(of_runs.shape[1])
    return _without_rounding_noise(of_runs.var(axis=0, ddof=1) / len(of_runs))


def _without_rounding_noise(variance: Array) -> Array:
    """Set variances to 0 that are rounding errors of constant values."""
    result: Array = np.where(variance < 1e-18, 0.0, variance)
    return result


def _smoothed(values: Array, counts: Array) -> Array:
    """Group means with 0 and 1 moved inwards by half an example of n + 1."""
    share = 0.5 / (counts + 1)
    result: Array = np.where(np.isnan(values), values, np.clip(values, share, 1 - share))
    return result
