"""Robustness curves: accuracy as the groups shift, exact from per-group accuracies, nothing evaluated again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ipgl.evaluation.intervals import interval, resampled_accuracies
from ipgl.evaluation.result import CurvePoint, GroupCount

Array = NDArray[np.float64]


def mixture_weights(groups: Sequence[GroupCount], severities: Sequence[float]) -> Array:
    """Group weights of the mixture at each severity, `[S, G]`; each row sums to 1.

    A class keeps its share of the test split. Within it the aligned group weighs `1 - severity`, and the
    conflicting groups share `severity` in proportion to their sizes (equally if all of them are empty). With two
    attributes this is `sum_y pi_y (q acc[y, aligned] + (1 - q) acc[y, conflicting])` for agreement `q = 1 - severity`.
    """
    counts = np.array([group.count for group in groups], dtype=np.float64)
    labels = np.array([group.label for group in groups])
    aligned = np.array([group.aligned for group in groups])
    weights = np.zeros((len(severities), len(groups)))
    shares = np.asarray(severities, dtype=np.float64)
    for label in np.unique(labels):
        of_class = labels == label
        prior = counts[of_class].sum() / max(1.0, counts.sum())
        weights[:, of_class & aligned] = ((1 - shares) * prior)[:, None]
        conflicting = of_class & ~aligned
        sizes = counts[conflicting]
        split = sizes / sizes.sum() if sizes.sum() else np.full(len(sizes), 1 / max(1, len(sizes)))
        weights[:, conflicting] = (shares * prior)[:, None] * split
    return weights


def weighted_accuracy(weights: Array, accuracies: Array) -> Array:
    """`weights [S, G]` applied to accuracies `[..., G]`: `[..., S]`.

    An empty group (NaN) makes every point to which it contributes NaN, and leaves the others alone.
    """
    known = ~np.isnan(accuracies)
    value = np.where(known, accuracies, 0.0) @ weights.T
    unknown = (~known).astype(np.float64) @ (weights > 0).astype(np.float64).T
    result: Array = np.where(unknown > 0, np.nan, value)
    return result


def mixture_curve(
    groups: Sequence[GroupCount],
    severities: Sequence[float],
    *,
    confidence: float,
    resamples: int,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """One run's mixture curve; its interval is a bootstrap over the examples within each group.

    Args:
        groups: Test counts per group.
        severities: Bias-conflicting shares in [0, 1].
        confidence: Level of the interval.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """
    weights = mixture_weights(groups, severities)
    accuracies = np.array([group.accuracy for group in groups])
    samples = weighted_accuracy(weights, resampled_accuracies(groups, resamples, seed))
    return curve_points(severities, weighted_accuracy(weights, accuracies), samples, confidence)


def curve_points(
    severities: Sequence[float], values: Array, samples: Array, confidence: float
) -> tuple[CurvePoint, ...]:
    """Points from values `[S]` and resampled values `[R, S]`."""
    low, high = interval(samples, confidence)
    return tuple(
        CurvePoint(
            severity=severity,
            agreement=round(1 - severity, 12),
            accuracy=float(values[i]),
            low=float(low[i]),
            high=float(high[i]),
        )
        for i, severity in enumerate(severities)
    )


def area_under_curve(points: Sequence[CurvePoint]) -> float:
    """Mean accuracy over the curve's range of severities (trapezoidal rule); one point is its own area."""
    ordered = sorted(points, key=lambda point: point.severity)
    x = np.array([point.severity for point in ordered])
    y = np.array([point.accuracy for point in ordered])
    return float(np.trapezoid(y, x) / (x[-1] - x[0])) if len(x) > 1 else float(y[0])
