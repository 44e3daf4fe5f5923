"""Robustness curves. Those over group mixes are exact from per-group accuracies; nothing is evaluated again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ipgl.config import EvaluationSettings
from ipgl.evaluation.intervals import interval, resampled_accuracies
from ipgl.evaluation.kinds import CORRUPTION_PREFIX, MIXTURE
from ipgl.evaluation.mixture import mixture_name, why_no_mixture
from ipgl.evaluation.mixture import mixture_weights as mixture_weights
from ipgl.evaluation.predictions import Classes, Predictions
from ipgl.evaluation.result import CurvePoint, GroupCount
from ipgl.evaluation.worst_case import worst_case_kl, worst_case_tv

Array = NDArray[np.float64]


def weighted_accuracy(weights: Array, accuracies: Array) -> Array:
    """`weights [S, G]` applied to accuracies `[..., G]`: `[..., S]`.

    An empty group (NaN) makes every point to which it contributes NaN, and leaves the others alone.
    """
    known = ~np.isnan(accuracies)
    value = np.where(known, accuracies, 0.0) @ weights.T
    unknown = (~known).astype(np.float64) @ (weights > 0).astype(np.float64).T
    result: Array = np.where(unknown > 0, np.nan, value)
    return result


GroupCurve = Callable[[Array], Array]


def centre_mix(groups: Sequence[GroupCount], settings: EvaluationSettings) -> Array:
    """Group shares `[G]` in the centre of the worst-case curves' balls; the test mix if training counts lack."""
    training = np.array([group.training_count for group in groups], dtype=np.float64)
    test = np.array([group.count for group in groups], dtype=np.float64)
    mix = training if settings.worst_case_mix == "training" and training.sum() else test
    shares: Array = mix / mix.sum()
    return shares


def group_curves(
    groups: Sequence[GroupCount], settings: EvaluationSettings
) -> dict[str, tuple[tuple[float, ...], GroupCurve]]:
    """The study's curves over group mixes: name -> its axis, and accuracies `[..., G]` to values `[..., S]`.

    What the settings call `mixture` has the name that `mixture_name` gives it, and is left out where the groups allow
    none.
    """
    mix = centre_mix(groups, settings)
    weights = mixture_weights(groups, settings.severities)
    known: dict[str, tuple[tuple[float, ...], GroupCurve]] = {
        MIXTURE: (settings.severities, lambda a: weighted_accuracy(weights, a)),
        "worst_case_kl": (settings.kl_radii, lambda a: worst_case_kl(a, mix, settings.kl_radii)),
        "worst_case_tv": (settings.tv_radii, lambda a: worst_case_tv(a, mix, settings.tv_radii)),
    }
    if why_no_mixture(groups):
        del known[MIXTURE]
    names = {MIXTURE: mixture_name(groups)}
    return {names.get(name, name): known[name] for name in settings.curves if name in known}


def run_curves(
    groups: Sequence[GroupCount], predictions: Predictions, settings: EvaluationSettings, seed: int = 0
) -> dict[str, tuple[CurvePoint, ...]]:
    """One run's curves; intervals are bootstraps over the examples within groups, and over pairs.

    Args:
        groups: Test counts per group.
        predictions: The run's predictions, for the curves beyond group mixes.
        settings: Which curves, at which points.
        seed: Seed of the resampling.
    """
    accuracies = np.array([group.accuracy for group in groups])
    drawn = resampled_accuracies(groups, settings.resamples, seed)
    curves = {
        name: curve_points(name, axis, curve(accuracies), curve(drawn), settings.confidence)
        for name, (axis, curve) in group_curves(groups, settings).items()
    }
    if "interpolation" in settings.curves and predictions.along.size:
        shares, pairs = predictions.consistent.mean(axis=1), predictions.along.shape[1]
        again = np.random.default_rng(seed).binomial(pairs, shares, (settings.resamples, len(shares))) / pairs
        axis = interpolation_axis(len(shares))
        curves["interpolation"] = curve_points("interpolation", axis, shares, again, settings.confidence)
    mix = centre_mix(groups, settings)[None]
    for corruption, answers in predictions.corrupted.items():
        counts = [corrupted_groups(groups, answer, predictions) for answer in answers]
        values = [weighted_accuracy(mix, np.array([g.accuracy for g in level]))[0] for level in counts]
        samples = [
            weighted_accuracy(mix, resampled_accuracies(level, settings.resamples, seed))[:, 0]
            for level in counts
        ]
        name = f"{CORRUPTION_PREFIX}{corruption}"
        curves[name] = curve_points(
            name,
            predictions.levels[corruption],
            np.array(values),
            np.stack(samples, axis=1),
            settings.confidence,
        )
    return curves


def interpolation_axis(points: int) -> tuple[float, ...]:
    """Evenly spaced places from a pair's first member (0) to its second (1)."""
    return tuple(round(float(t), 12) for t in np.linspace(0, 1, points))


def corrupted_groups(
    groups: Sequence[GroupCount], answer: Classes, predictions: Predictions
) -> list[GroupCount]:
    """The groups with the counts of other answers `[N]` to the same test examples."""
    return [
        group.model_copy(
            update={
                "correct": int(
                    (
                        (answer == group.label)
                        & (predictions.label == group.label)
                        & (predictions.attribute == group.attribute)
                    ).sum()
                )
            }
        )
        for group in groups
    ]


def curve_points(
    name: str, severities: Sequence[float], values: Array, samples: Array, confidence: float
) -> tuple[CurvePoint, ...]:
    """Points of the curve `name` from values `[S]` and resampled values `[R, S]`."""
    low, high = interval(samples, confidence)
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
    return float(area(values, [point.severity for point in points]))


def area(curves: Array, axis: Sequence[float]) -> Array:
    """Areas `[...]` of curves `[..., S]` over the places `[S]` in any order, as `area_under_curve`."""
    order = np.argsort(axis)
    x = np.asarray(axis, dtype=np.float64)[order]
    if len(x) == 1:
        return curves[..., 0]
    areas: Array = np.trapezoid(curves[..., order], x, axis=-1) / (x[-1] - x[0])
    return areas
