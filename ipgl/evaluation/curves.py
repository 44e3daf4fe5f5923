"""Robustness curves. Those over group mixes follow exactly from per-group accuracies, without new evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ipgl.config import EvaluationSettings
from ipgl.evaluation.curve_types import CORRUPTION_PREFIX, MIXTURE
from ipgl.evaluation.intervals import mean_interval
from ipgl.evaluation.mixture import mixture_name, mixture_weights, why_no_mixture
from ipgl.evaluation.predictions import Predictions
from ipgl.evaluation.run_result import CurvePoint, GroupCount
from ipgl.evaluation.sampling_variance import OutcomeSample, sample_counts, sample_runs
from ipgl.evaluation.worst_case import KULLBACK_LEIBLER, TOTAL_VARIATION, Ball
from ipgl.evaluation.worst_group import trapezoid_weights, worst_case

Array = NDArray[np.float64]


def centre_mix(groups: Sequence[GroupCount], settings: EvaluationSettings) -> Array:
    """Group shares `[G]` in the centre of the worst-case curves' balls; the test mix if training counts lack."""
    training = np.array([group.training_count for group in groups], dtype=np.float64)
    test = np.array([group.count for group in groups], dtype=np.float64)
    mix = training if settings.worst_case_mix == "training" and training.sum() else test
    shares: Array = mix / mix.sum()
    return shares


@dataclass(frozen=True)
class Curve:
    """A curve with its intervals.

    Attributes:
        points: In the order of the study's severities, radii or levels.
        area: Mean value over the curve's axis (trapezoidal rule), with its interval.
    """

    points: tuple[CurvePoint, ...]
    area: tuple[float, float, float]


def run_curves(
    groups: Sequence[GroupCount], predictions: Predictions, settings: EvaluationSettings
) -> dict[str, tuple[CurvePoint, ...]]:
    """One run's curves, with intervals for this trained model over other test examples and pairs.

    Args:
        groups: Test counts per group.
        predictions: The run's predictions, for the curves beyond group mixes.
        settings: Which curves, at which points.
    """
    found = method_curves(sample_counts(groups), groups, [predictions], [""], settings)
    return {name: curve.points for name, curve in found.items()}


def method_curves(
    sample: OutcomeSample,
    groups: Sequence[GroupCount],
    predictions: Sequence[Predictions],
    pairs: Sequence[str],
    settings: EvaluationSettings,
) -> dict[str, Curve]:
    """The curves of one method from its runs.

    What the settings call `mixture` has the name that `mixture_name` gives it, and is left out where the groups allow
    none.

    Args:
        sample: Outcomes of the runs on the test examples.
        groups: Test counts per group.
        predictions: Of each run, for the curves beyond group mixes; one that a run lacks is left out.
        pairs: Of each run, the name of its held-out pairs.
        settings: Which curves, at which points.
    """
    alpha = settings.alpha
    mix = centre_mix(groups, settings)
    curves: dict[str, Curve] = {}
    for name in settings.curves:
        if name == MIXTURE and not why_no_mixture(groups):
            found, weights = mixture_name(groups), mixture_weights(groups, settings.severities)
            curves[found] = _weighted_curve(found, settings.severities, sample, weights, alpha)
        elif name == "worst_case_kl":
            curves[name] = _worst_case_curve(name, KULLBACK_LEIBLER, settings.kl_radii, sample, mix, alpha)
        elif name == "worst_case_tv":
            curves[name] = _worst_case_curve(name, TOTAL_VARIATION, settings.tv_radii, sample, mix, alpha)
    if "interpolation" in settings.curves and all(one.along.size for one in predictions):
        outcomes = [one.consistent.astype(np.float64) for one in predictions]
        no_groups = [np.zeros(one.shape[1], dtype=np.int64) for one in outcomes]
        axis = interpolation_axis(len(outcomes[0]))
        curve = _outcome_curve("interpolation", axis, outcomes, no_groups, np.ones(1), pairs, alpha)
        # At the first member every pair agrees with itself, whatever the sample.
        first = curve.points[0].model_copy(update={"low": 1.0, "high": 1.0})
        curves["interpolation"] = replace(curve, points=(first, *curve.points[1:]))
    for corruption in predictions[0].corrupted:
        if all(corruption in one.corrupted for one in predictions):
            key = f"{CORRUPTION_PREFIX}{corruption}"
            right = [(one.corrupted[corruption] == one.label).astype(np.float64) for one in predictions]
            of_examples = [group_of(one, groups) for one in predictions]
            levels = predictions[0].levels[corruption]
            curves[key] = _outcome_curve(key, levels, right, of_examples, mix, sample.examples, alpha)
    return curves


def group_of(predictions: Predictions, groups: Sequence[GroupCount]) -> NDArray[np.int64]:
    """Group of each test example, int64 `[N]`."""
    num_attributes = max(group.attribute for group in groups) + 1
    return predictions.label.astype(np.int64) * num_attributes + predictions.attribute


def _weighted_curve(
    name: str, axis: Sequence[float], sample: OutcomeSample, weights: Array, alpha: float
) -> Curve:
    """A curve whose value at each place of the axis `[S]` is a weighted mean of groups, weights `[S, G]`."""
    means = sample.weighted(np.vstack([weights, trapezoid_weights(axis) @ weights]))
    low, high = mean_interval(means, alpha / 2)
    *points, area = zip(means.mean, low, high, strict=True)
    return Curve(curve_points(name, axis, *(np.array(column) for column in zip(*points, strict=True))), area)


def _worst_case_curve(
    name: str, ball: Ball, radii: Sequence[float], sample: OutcomeSample, mix: Array, alpha: float
) -> Curve:
    curve, area = worst_case(sample, ball, mix, radii, alpha)
    return Curve(
        curve_points(name, radii, curve.mean, curve.low, curve.high),
        (float(area.mean[0]), float(area.low[0]), float(area.high[0])),
    )


def _outcome_curve(
    name: str,
    axis: Sequence[float],
    outcomes: Sequence[Array],
    groups: Sequence[NDArray[np.int64]],
    mix: Array,
    examples: Sequence[str],
    alpha: float,
) -> Curve:
    """A curve whose value at each place `[S]` is a mean over examples, from each run's outcomes `[S, N]`."""
    share = trapezoid_weights(axis)
    rows = [np.vstack([run, share @ run]) for run in outcomes]
    found = []
    for place in range(len(axis) + 1):
        sample = sample_runs([run[place] for run in rows], groups, len(mix), examples)
        means = sample.weighted(mix[None])
        low, high = mean_interval(means, alpha / 2)
        found.append((float(means.mean[0]), float(low[0]), float(high[0])))
    *points, area = found
    return Curve(curve_points(name, axis, *(np.array(column) for column in zip(*points, strict=True))), area)


def interpolation_axis(points: int) -> tuple[float, ...]:
    """Evenly spaced places from a pair's first member (0) to its second (1)."""
    return tuple(round(float(t), 12) for t in np.linspace(0, 1, points))


def curve_points(
    name: str, severities: Sequence[float], values: Array, low: Array, high: Array
) -> tuple[CurvePoint, ...]:
    """Points of the curve `name` from values and the ends of their intervals, each `[S]`."""
    return tuple(
        CurvePoint(
            severity=severity,
            agreement=round(1 - severity, 12) if name == MIXTURE else math.nan,
            accuracy=float(values[i]),
            low=float(low[i]),
            high=float(high[i]),
        )
        for i, severity in enumerate(severities)
    )


def area_under_curve(points: Sequence[CurvePoint]) -> float:
    """Mean value over the curve's range of severities (trapezoidal rule); one point is its own area."""
    values = np.array([point.accuracy for point in points])
    return float(trapezoid_weights([point.severity for point in points]) @ values)
