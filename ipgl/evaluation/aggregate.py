"""From the final runs of a study to one row and its curves per method, with intervals, and method against method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ipgl.config import EvaluationSettings
from ipgl.evaluation.curves import (
    area,
    centre_mix,
    curve_points,
    group_curves,
    interpolation_axis,
    mixture_weights,
    weighted_accuracy,
)
from ipgl.evaluation.intervals import interval, nested_accuracies, resampled_seed_means
from ipgl.evaluation.kinds import CORRUPTION_PREFIX
from ipgl.evaluation.mixture import common_mixture
from ipgl.evaluation.predictions import Predictions
from ipgl.evaluation.result import CurvePoint, GroupCount, RunResult
from ipgl.evaluation.significance import paired_permutation_test
from ipgl.evaluation.summary import Estimate, GroupEstimate, PairedTest

Array = NDArray[np.float64]

# Metrics that are no means over examples: their mean over seeds is shown without an interval.
_WITHOUT_INTERVAL = ("auroc", "nll", "brier", "ece", "rho")


@dataclass(frozen=True)
class Tested:
    """One completed final run with what it predicted."""

    run: RunResult
    predictions: Predictions


@dataclass(frozen=True)
class Comparison:
    """Aggregates over the final seeds: per label estimates, groups and curves, and per pair of labels differences."""

    estimates: dict[str, dict[str, Estimate]]
    groups: dict[str, tuple[GroupEstimate, ...]]
    curves: dict[str, dict[str, tuple[CurvePoint, ...]]]
    differences: dict[str, tuple[CurvePoint, ...]]
    tests: tuple[PairedTest, ...]


NOTHING_COMPARED = Comparison({}, {}, {}, {}, ())


@dataclass(frozen=True)
class _Sampled:
    """One label's runs with their group accuracies, resampled.

    Attributes:
        examples: Names the test examples: labels that share it were tested on the same ones.
        group: Group of each example, `[N]`.
        values: Group accuracies `[runs, G]`.
        samples: The same under resampled examples, `[R, runs, G]`.
        seed: Seed of the resampling of runs.
    """

    runs: Sequence[Tested]
    settings: EvaluationSettings
    examples: str
    group: NDArray[np.int64]
    values: Array
    samples: Array
    seed: int

    @property
    def groups(self) -> tuple[GroupCount, ...]:
        return self.runs[0].run.groups

    def estimate(self, values: Array, samples: Array) -> Estimate:
        """Mean of values `[runs]`, with an interval from samples `[R, runs]`."""
        low, high = interval(resampled_seed_means(samples, self.seed), self.settings.confidence)
        return Estimate(mean=float(values.mean()), low=float(low), high=float(high))

    def curve(self, name: str, axis: Sequence[float], values: Array, samples: Array) -> _Curve:
        """The mean of values `[runs, S]` over runs, with samples `[R, runs, S]`."""
        return _Curve(
            name, tuple(axis), values.mean(axis=0), resampled_seed_means(samples, self.seed), self.settings
        )


@dataclass(frozen=True)
class _Curve:
    """A label's mean curve `[S]` and resamples of it, `[R, S]`."""

    name: str
    axis: tuple[float, ...]
    mean: Array
    drawn: Array
    settings: EvaluationSettings

    @property
    def points(self) -> tuple[CurvePoint, ...]:
        return curve_points(self.name, self.axis, self.mean, self.drawn, self.settings.confidence)

    @property
    def area(self) -> Estimate:
        low, high = interval(area(self.drawn, self.axis), self.settings.confidence)
        return Estimate(mean=float(area(self.mean, self.axis)), low=float(low), high=float(high))


def compare(tested: Mapping[str, Sequence[Tested]], settings: EvaluationSettings) -> Comparison:
    """Aggregate the completed final runs of each label (labels without any are left out).

    Runs on the same test examples are resampled together, so that the interval of a difference knows that both
    methods faced the same examples; runs on others are resampled apart.
    """
    sampled = _resample({label: runs for label, runs in tested.items() if runs}, settings)
    curves = {label: _curves(part) for label, part in sampled.items()}
    differences = {}
    pairs = {
        (a, b): name
        for a, b in combinations(reversed(list(sampled)), 2)
        if (name := common_mixture(curves[a], curves[b])) is not None
    }
    for (a, b), name in pairs.items():
        first, second = curves[a][name], curves[b][name]
        difference = _Curve(name, first.axis, first.mean - second.mean, first.drawn - second.drawn, settings)
        differences[f"{a} - {b}"] = difference.points
    return Comparison(
        estimates={label: _estimates(part, curves[label]) for label, part in sampled.items()},
        groups={label: _groups(part) for label, part in sampled.items()},
        curves={
            label: {name: curve.points for name, curve in known.items()} for label, known in curves.items()
        },
        differences=differences,
        tests=tuple(_test(a, b, sampled) for a, b in pairs),
    )


def group_of(predictions: Predictions, groups: Sequence[GroupCount]) -> NDArray[np.int64]:
    """Group of each test example, int64 `[N]`."""
    num_attributes = max(group.attribute for group in groups) + 1
    return predictions.label.astype(np.int64) * num_attributes + predictions.attribute


def _resample(tested: Mapping[str, Sequence[Tested]], settings: EvaluationSettings) -> dict[str, _Sampled]:
    blocks: dict[str, list[str]] = {}
    for label, runs in tested.items():
        blocks.setdefault(runs[0].predictions.examples, []).append(label)
    sampled = {}
    for seed, (examples, labels) in enumerate(blocks.items()):
        runs = [run for label in labels for run in tested[label]]
        groups = runs[0].run.groups
        group = group_of(runs[0].predictions, groups)
        correct = np.stack([run.predictions.correct for run in runs])
        samples = nested_accuracies(correct, group, len(groups), settings.resamples, seed)
        start = 0
        for label in labels:
            own = slice(start, start + len(tested[label]))
            start = own.stop
            values = np.array([[g.accuracy for g in run.run.groups] for run in tested[label]])
            number = list(tested).index(label)
            sampled[label] = _Sampled(
                tested[label], settings, examples, group, values, samples[:, own], number
            )
    return {label: sampled[label] for label in tested}


def _curves(part: _Sampled) -> dict[str, _Curve]:
    curves = {
        name: part.curve(name, axis, curve(part.values), curve(part.samples))
        for name, (axis, curve) in group_curves(part.groups, part.settings).items()
    }
    predictions = [run.predictions for run in part.runs]
    if "interpolation" in part.settings.curves and all(p.along.size for p in predictions):
        consistent = np.stack([p.consistent for p in predictions])
        runs, points, pairs = consistent.shape
        flat = nested_accuracies(
            consistent.reshape(runs * points, pairs),
            np.zeros(pairs, dtype=np.int64),
            1,
            part.settings.resamples,
            part.seed,
        )
        curves["interpolation"] = part.curve(
            "interpolation",
            interpolation_axis(points),
            consistent.mean(axis=2),
            flat.reshape(-1, runs, points),
        )
    for corruption in predictions[0].corrupted:
        if any(corruption not in p.corrupted for p in predictions):
            continue
        levels = predictions[0].levels[corruption]
        correct = np.stack([p.corrupted[corruption] == p.label for p in predictions])
        flat = nested_accuracies(
            correct.reshape(-1, correct.shape[2]),
            part.group,
            len(part.groups),
            part.settings.resamples,
            part.seed,
        )
        mix = centre_mix(part.groups, part.settings)[None]
        shape = (len(predictions), len(levels))
        observed = _group_accuracies(correct.reshape(-1, correct.shape[2]), part.group, len(part.groups))
        name = f"{CORRUPTION_PREFIX}{corruption}"
        curves[name] = part.curve(
            name,
            levels,
            weighted_accuracy(mix, observed)[:, 0].reshape(shape),
            weighted_accuracy(mix, flat)[..., 0].reshape(-1, *shape),
        )
    return curves


def _group_accuracies(correct: NDArray[np.bool_], group: NDArray[np.int64], num_groups: int) -> Array:
    """`[rows, G]` from correct `[rows, N]`; NaN for an empty group."""
    counts = np.bincount(group, minlength=num_groups)
    hits = np.stack([np.bincount(group, weights=row, minlength=num_groups) for row in correct])
    with np.errstate(invalid="ignore"):
        accuracies: Array = hits / counts
    return accuracies


def _estimates(part: _Sampled, curves: Mapping[str, _Curve]) -> dict[str, Estimate]:
    groups = part.groups
    test = np.array([group.count for group in groups], dtype=np.float64)
    training = np.array([group.training_count for group in groups], dtype=np.float64)
    labels = np.array([group.label for group in groups])
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN for a class without examples
        balanced = sum(
            np.where(labels == label, test / test[labels == label].sum(), 0.0) for label in np.unique(labels)
        ) / len(np.unique(labels))
    target = mixture_weights(groups, [part.settings.target_severity])

    def over(weights: Array) -> Callable[[Array], Array]:
        return lambda a: weighted_accuracy(weights[None] / weights.sum(), a)[..., 0]

    metrics: dict[str, Callable[[Array], Array]] = {
        "average": over(test),
        "adjusted_average": over(training) if training.sum() else lambda a: np.full(a.shape[:-1], math.nan),
        "class_balanced": over(np.asarray(balanced)),
        "group_mean": lambda a: a.mean(axis=-1),
        "worst_group": lambda a: a.min(axis=-1),
        "shifted_accuracy": lambda a: weighted_accuracy(target, a)[..., 0],
    }
    estimates = {
        name: part.estimate(metric(part.values), metric(part.samples)) for name, metric in metrics.items()
    }
    estimates |= {f"area_{name}": curve.area for name, curve in curves.items()}
    if "interpolation" in curves:
        end = curves["interpolation"].points[-1]
        estimates["flip_rate"] = Estimate(mean=1 - end.accuracy, low=1 - end.high, high=1 - end.low)
    for name in _WITHOUT_INTERVAL:
        known = [run.run.metrics[name] for run in part.runs if name in run.run.metrics]
        if known:
            estimates[name] = Estimate(mean=float(np.mean(known)), low=math.nan, high=math.nan)
    return estimates


def _groups(part: _Sampled) -> tuple[GroupEstimate, ...]:
    return tuple(
        GroupEstimate(
            label=group.label,
            attribute=group.attribute,
            aligned=group.aligned,
            count=group.count,
            training_count=group.training_count,
            accuracy=part.estimate(part.values[:, i], part.samples[:, :, i]),
        )
        for i, group in enumerate(part.groups)
    )


def _test(a: str, b: str, sampled: Mapping[str, _Sampled]) -> PairedTest:
    first, second = sampled[a], sampled[b]
    settings = first.settings
    target = mixture_weights(first.groups, [settings.target_severity])

    def shifted(part: _Sampled) -> tuple[Array, Array]:
        weights = mixture_weights(part.groups, [settings.target_severity])
        return (
            weighted_accuracy(weights, part.values)[:, 0].mean(),
            resampled_seed_means(weighted_accuracy(weights, part.samples)[..., 0], part.seed),
        )

    (mean_a, drawn_a), (mean_b, drawn_b) = shifted(first), shifted(second)
    low, high = interval(drawn_a - drawn_b, settings.confidence)
    paired = first.examples == second.examples
    return PairedTest(
        a=a,
        b=b,
        difference=Estimate(mean=float(mean_a - mean_b), low=float(low), high=float(high)),
        p_value=paired_permutation_test(
            np.stack([run.predictions.correct for run in first.runs]),
            np.stack([run.predictions.correct for run in second.runs]),
            first.group,
            target[0],
            permutations=settings.permutations,
        )
        if paired
        else math.nan,
    )
