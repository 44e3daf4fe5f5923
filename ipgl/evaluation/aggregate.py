"""From the final runs of a study to one row and one curve per method, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ipgl.config import EvaluationSettings
from ipgl.evaluation.curves import curve_points, mixture_weights, weighted_accuracy
from ipgl.evaluation.intervals import interval, nested_accuracies, resampled_seed_means
from ipgl.evaluation.result import CurvePoint, RunResult
from ipgl.evaluation.summary import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tested:
    """One completed final run with what it predicted.

    Attributes:
        run: The run's result.
        prediction: Predicted class of each test example, `[N]`.
        label: The examples' labels, `[N]`; equal for all runs of a study.
        attribute: The examples' attributes, `[N]`; equal for all runs of a study.
    """

    run: RunResult
    prediction: NDArray[np.int32]
    label: NDArray[np.int32]
    attribute: NDArray[np.int32]


@dataclass(frozen=True)
class Comparison:
    """Aggregates over the final seeds: per label the estimates and the mixture curve, and per pair the difference."""

    estimates: dict[str, dict[str, Estimate]]
    curves: dict[str, tuple[CurvePoint, ...]]
    differences: dict[str, tuple[CurvePoint, ...]]


def compare(tested: Mapping[str, Sequence[Tested]], settings: EvaluationSettings) -> Comparison:
    """Aggregate the completed final runs of each label (labels without any are left out).

    All runs are resampled together, so that the interval of a difference knows that both methods faced the
    same test examples.
    """
    labels = [label for label, runs in tested.items() if runs]
    if not labels:
        return Comparison({}, {}, {})
    runs = [run for label in labels for run in tested[label]]
    groups = runs[0].run.groups
    weights = mixture_weights(groups, settings.severities)
    target = mixture_weights(groups, [settings.target_severity])
    values = np.array([[group.accuracy for group in run.run.groups] for run in runs])
    samples = _resample(runs, settings)
    bounds = np.cumsum([0, *(len(tested[label]) for label in labels)])
    rows = {label: slice(bounds[i], bounds[i + 1]) for i, label in enumerate(labels)}

    shares = np.array([group.count for group in groups]) / sum(group.count for group in groups)
    metrics: dict[str, Callable[[Array], Array]] = {
        "average": lambda a: np.where(np.isnan(a), 0.0, a) @ shares,
        "group_mean": lambda a: a.mean(axis=-1),
        "worst_group": lambda a: a.min(axis=-1),
        "shifted_accuracy": lambda a: weighted_accuracy(target, a)[..., 0],
        "area_mixture": lambda a: _area(weighted_accuracy(weights, a), settings.severities),
    }
    estimates: dict[str, dict[str, Estimate]] = {}
    curve_means: dict[str, tuple[Array, Array]] = {}
    for number, (label, part) in enumerate(rows.items()):
        estimates[label] = {}
        for name, metric in metrics.items():
            drawn = resampled_seed_means(metric(samples[:, part]), number)
            low, high = interval(drawn, settings.confidence)
            estimates[label][name] = Estimate(
                mean=float(metric(values[part]).mean()), low=float(low), high=float(high)
            )
        curve_means[label] = (
            weighted_accuracy(weights, values[part]).mean(axis=0),
            resampled_seed_means(weighted_accuracy(weights, samples[:, part]), number),
        )
    return Comparison(
        estimates,
        {
            label: curve_points(settings.severities, mean, drawn, settings.confidence)
            for label, (mean, drawn) in curve_means.items()
        },
        {
            f"{a} - {b}": curve_points(
                settings.severities,
                curve_means[a][0] - curve_means[b][0],
                curve_means[a][1] - curve_means[b][1],
                settings.confidence,
            )
            for a, b in combinations(reversed(labels), 2)
        },
    )


def _resample(runs: Sequence[Tested], settings: EvaluationSettings) -> Array:
    """Group accuracies `[R, runs, G]` under one resampling of the test examples for all runs."""
    groups = runs[0].run.groups
    num_attributes = max(group.attribute for group in groups) + 1
    correct = np.stack([run.prediction == run.label for run in runs])
    group = runs[0].label.astype(np.int64) * num_attributes + runs[0].attribute
    return nested_accuracies(correct, group, len(groups), settings.resamples, seed=0)


def _area(curves: Array, severities: Sequence[float]) -> Array:
    order = np.argsort(severities)
    x = np.asarray(severities, dtype=np.float64)[order]
    if len(x) == 1:
        return curves[..., 0]
    area: Array = np.trapezoid(curves[..., order], x, axis=-1) / (x[-1] - x[0])
    return area
