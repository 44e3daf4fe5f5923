"""Aggregation over final seeds: estimates and curves per method with intervals, and comparisons of methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ipgl.config import EvaluationSettings, config_hash
from ipgl.evaluation.curves import Curve, curve_points, group_of, method_curves
from ipgl.evaluation.intervals import Differences, Holm, differences, holm, mean_interval
from ipgl.evaluation.mixture import common_mixture, mixture_weights
from ipgl.evaluation.predictions import Predictions
from ipgl.evaluation.run_result import CurvePoint, GroupCount, RunResult
from ipgl.evaluation.sampling_variance import OutcomeSample, sample_runs
from ipgl.evaluation.significance import paired_permutation_test
from ipgl.evaluation.study_summary import Estimate, GroupEstimate, MethodTest
from ipgl.evaluation.worst_group import worst_group

Array = NDArray[np.float64]

_MANY = 1e6  # degrees of freedom from which on Student's t is the normal distribution; JSON has no infinity
# Metrics that are no means over examples: their mean over seeds is shown without an interval.
_WITHOUT_INTERVAL = ("auroc", "nll", "brier", "ece", "rho")


@dataclass(frozen=True)
class Tested:
    """A completed final run and its predictions."""

    run: RunResult
    predictions: Predictions

    @property
    def examples(self) -> str:
        """Name of the test examples: runs that share it were tested on the same ones, in the same order.

        Labels and attributes do not suffice: another data seed may draw other examples with the same order of groups.
        """
        dataset = self.run.config.get("dataset")
        seed = (dataset.get("seed") or 0) if isinstance(dataset, dict) else 0
        return f"{self.predictions.examples} {seed}"


@dataclass(frozen=True)
class Comparison:
    """Aggregates over the final seeds: per label estimates, groups and curves, and per pair of labels differences."""

    estimates: dict[str, dict[str, Estimate]]
    groups: dict[str, tuple[GroupEstimate, ...]]
    curves: dict[str, dict[str, tuple[CurvePoint, ...]]]
    differences: dict[str, tuple[CurvePoint, ...]]
    tests: tuple[MethodTest, ...]


NOTHING_COMPARED = Comparison({}, {}, {}, {}, ())


@dataclass(frozen=True)
class _Method:
    """One label's runs.

    Attributes:
        groups: Test counts per group, over all runs where each has test examples of its own.
        sample: Whether each test example was classified correctly.
    """

    runs: Sequence[Tested]
    groups: tuple[GroupCount, ...]
    sample: OutcomeSample
    curves: dict[str, Curve]


def compare(tested: Mapping[str, Sequence[Tested]], settings: EvaluationSettings) -> Comparison:
    """Aggregate the completed final runs of each label (labels without any are left out).

    Args:
        tested: Label -> its runs.
        settings: Curves, confidence, target severity.

    Returns:
        Intervals of single methods hold each at the study's confidence; those of differences on the mixture curve
        hold for all pairs of methods together at each severity (Holm's correction).
    """
    methods = {label: _method(runs, settings) for label, runs in tested.items() if runs}
    pairs = {
        (a, b): name
        for a, b in combinations(reversed(list(methods)), 2)
        if (name := common_mixture(methods[a].curves, methods[b].curves)) is not None
    }
    return Comparison(
        estimates={label: _estimates(method, settings) for label, method in methods.items()},
        groups={label: _groups(method, settings) for label, method in methods.items()},
        curves={
            label: {name: curve.points for name, curve in method.curves.items()}
            for label, method in methods.items()
        },
        differences=_mixture_differences(methods, pairs, settings),
        tests=_tests(methods, pairs, settings),
    )


def _method(runs: Sequence[Tested], settings: EvaluationSettings) -> _Method:
    names = [one.examples for one in runs]
    shared = len(set(names)) == 1
    groups = runs[0].run.groups if shared else _pooled([one.run.groups for one in runs])
    sample = sample_runs(
        [one.predictions.correct for one in runs],
        [group_of(one.predictions, groups) for one in runs],
        len(groups),
        names,
    )
    # Equal settings of the data set give equal pairs.
    pairs = [config_hash(one.run.config.get("dataset")) for one in runs]
    curves = method_curves(sample, groups, [one.predictions for one in runs], pairs, settings)
    return _Method(runs, groups, sample, curves)


def _pooled(of_runs: Sequence[tuple[GroupCount, ...]]) -> tuple[GroupCount, ...]:
    """Counts over runs that were tested on different examples."""
    return tuple(
        same[0].model_copy(
            update={
                name: sum(getattr(group, name) for group in same)
                for name in ("count", "correct", "training_count")
            }
        )
        for same in zip(*of_runs, strict=True)
    )


def _estimates(method: _Method, settings: EvaluationSettings) -> dict[str, Estimate]:
    weights = _metric_weights(method.groups, settings)
    means = method.sample.weighted(np.stack(list(weights.values())))
    low, high = mean_interval(means, settings.alpha / 2)
    estimates = {
        name: Estimate(mean=float(means.mean[i]), low=float(low[i]), high=float(high[i]))
        for i, name in enumerate(weights)
    }
    lowest = worst_group(method.sample, settings.alpha)
    estimates["worst_group"] = Estimate(
        mean=float(lowest.mean[0]), low=float(lowest.low[0]), high=float(lowest.high[0])
    )
    of_runs = method.sample.values.min(axis=1).mean()
    estimates["worst_group_of_runs"] = Estimate(mean=float(of_runs), low=math.nan, high=math.nan)
    for name, curve in method.curves.items():
        mean, at_least, at_most = curve.area
        estimates[f"area_{name}"] = Estimate(mean=float(mean), low=float(at_least), high=float(at_most))
    if "interpolation" in method.curves:
        end = method.curves["interpolation"].points[-1]
        estimates["flip_rate"] = Estimate(mean=1 - end.accuracy, low=1 - end.high, high=1 - end.low)
    for name in _WITHOUT_INTERVAL:
        known = [one.run.metrics[name] for one in method.runs if name in one.run.metrics]
        if known:
            estimates[name] = Estimate(mean=float(np.mean(known)), low=math.nan, high=math.nan)
    return estimates


def _metric_weights(groups: Sequence[GroupCount], settings: EvaluationSettings) -> dict[str, Array]:
    """Group weights `[G]` of each metric that is a weighted mean of group accuracies; NaN where it is unknown."""
    test = np.array([group.count for group in groups], dtype=np.float64)
    training = np.array([group.training_count for group in groups], dtype=np.float64)
    labels = np.array([group.label for group in groups])
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN for a class without examples
        balanced = sum(
            np.where(labels == label, test / test[labels == label].sum(), 0.0) for label in np.unique(labels)
        ) / len(np.unique(labels))
        return {
            "average": test / test.sum(),
            "adjusted_average": training / training.sum(),
            "class_balanced": np.asarray(balanced),
            "group_mean": np.full(len(groups), 1 / len(groups)),
            "shifted_accuracy": mixture_weights(groups, [settings.target_severity])[0],
        }


def _groups(method: _Method, settings: EvaluationSettings) -> tuple[GroupEstimate, ...]:
    means = method.sample.weighted(np.eye(len(method.groups)))
    low, high = mean_interval(means, settings.alpha / 2)
    return tuple(
        GroupEstimate(
            label=group.label,
            attribute=group.attribute,
            aligned=group.aligned,
            count=group.count,
            training_count=group.training_count,
            accuracy=Estimate(mean=float(means.mean[i]), low=float(low[i]), high=float(high[i])),
        )
        for i, group in enumerate(method.groups)
    )


def _mixture_differences(
    methods: Mapping[str, _Method], pairs: Mapping[tuple[str, str], str], settings: EvaluationSettings
) -> dict[str, tuple[CurvePoint, ...]]:
    """`"a - b"` -> the difference of the curves that both have; intervals corrected over all pairs at each severity."""
    severities = settings.severities
    found = {(a, b): _difference(methods[a], methods[b], severities) for a, b in pairs}
    if not found:
        return {}
    p_values = np.stack([difference.p_value for difference in found.values()])  # [pairs, S]
    levels = np.stack([holm(column, settings.alpha).levels for column in p_values.T], axis=1)
    points = {}
    for ((a, b), difference), level in zip(found.items(), levels, strict=True):
        low, high = difference.interval(level)
        points[f"{a} - {b}"] = curve_points(pairs[a, b], severities, difference.mean, low, high)
    return points


def _difference(a: _Method, b: _Method, severities: Sequence[float]) -> Differences:
    return differences(
        a.sample, b.sample, mixture_weights(a.groups, severities), mixture_weights(b.groups, severities)
    )


def _tests(
    methods: Mapping[str, _Method], pairs: Iterable[tuple[str, str]], settings: EvaluationSettings
) -> tuple[MethodTest, ...]:
    found = [_difference(methods[a], methods[b], [settings.target_severity]) for a, b in pairs]
    corrected = holm([float(difference.p_value[0]) for difference in found], settings.alpha)
    return tuple(
        _test(a, b, methods, difference, corrected, place, settings)
        for place, ((a, b), difference) in enumerate(zip(pairs, found, strict=True))
    )


def _test(
    a: str,
    b: str,
    methods: Mapping[str, _Method],
    difference: Differences,
    corrected: Holm,
    place: int,
    settings: EvaluationSettings,
) -> MethodTest:
    def estimate(alpha: float) -> Estimate:
        low, high = difference.interval(alpha)
        return Estimate(mean=float(difference.mean[0]), low=float(low[0]), high=float(high[0]))

    first, second = methods[a], methods[b]
    paired = first.sample.shared and first.sample.examples[0] in set(second.sample.examples)
    return MethodTest(
        a=a,
        b=b,
        difference=estimate(settings.alpha),
        p_value=float(difference.p_value[0]),
        corrected=estimate(float(corrected.levels[place])),
        corrected_p_value=float(corrected.adjusted[place]),
        degrees_of_freedom=min(float(difference.degrees[0]), _MANY),
        p_value_of_trained_models=paired_permutation_test(
            np.stack([one.predictions.correct for one in first.runs]),
            np.stack([one.predictions.correct for one in second.runs]),
            first.sample.group,
            mixture_weights(first.groups, [settings.target_severity])[0],
            permutations=settings.permutations,
        )
        if paired and second.sample.shared
        else math.nan,
    )
