"""Queries on a study's results that text, tables and figures share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ipgl.config.ranges import Range, RangeError, parse_range
from ipgl.evaluation.curve_types import MIXTURE, MIXTURES, CurveType, curve_type
from ipgl.evaluation.run_result import CurvePoint, GroupCount, RunResult
from ipgl.evaluation.study_summary import Estimate, GroupEstimate, MethodSummary, StudyResults, StudySummary
from ipgl.report.formatting import finite

CURVE_ORDER = (*MIXTURES, "worst_case_kl", "worst_case_tv", "interpolation")
AVERAGE = "average"
WORST_GROUP = "worst_group"
WORST_NONEMPTY_GROUP = "worst_nonempty_group"
ACCURACY = "accuracy"
KAPPA = "kappa"
FLIP_RATE = "flip_rate"
ADJUSTED_AVERAGE = "adjusted_average"
SHIFTED = "shifted_accuracy"


def mixture_of(summary: StudySummary) -> str:
    """The curve that the study's methods are compared on: `mixture`, or `general_mixture` without an alignment."""
    return next((name for name in MIXTURES if any(m.curves.get(name) for m in summary.methods)), MIXTURE)


def curve_points(method: MethodSummary, curve: str) -> list[CurvePoint]:
    """The method's curve from the easiest mix to the hardest; empty where it has none."""
    return sorted(method.curves.get(curve, ()), key=lambda point: point.severity)


def curve_names(summary: StudySummary) -> list[str]:
    """Every curve that some method has: the mixture first, the data set's corruptions last."""
    found = {name for method in summary.methods for name, points in method.curves.items() if points}
    return [name for name in CURVE_ORDER if name in found] + sorted(found - set(CURVE_ORDER))


def curve_type_of(curve: str) -> CurveType:
    """How to read the curve; one that this version does not know is shown under its own name."""
    try:
        return curve_type(curve)
    except KeyError:
        return CurveType(curve, curve.replace("_", " ").capitalize(), "severity", "accuracy", False, curve)


def point_at(points: Iterable[CurvePoint], severity: float) -> CurvePoint | None:
    """The point at `severity`, or None."""
    return next((point for point in points if math.isclose(point.severity, severity, abs_tol=1e-9)), None)


def severities(summary: StudySummary, curve: str) -> list[float]:
    """Every severity that some method's curve holds, rising."""
    return sorted({point.severity for method in summary.methods for point in curve_points(method, curve)})


def difference_at(summary: StudySummary, first: str, second: str, severity: float) -> CurvePoint | None:
    """`first - second` at `severity`, from whichever order is stored; None where it is not a number."""
    point = point_at(summary.differences.get(f"{first} - {second}", ()), severity)
    if point is None:
        other = point_at(summary.differences.get(f"{second} - {first}", ()), severity)
        if other is not None:
            point = other.model_copy(
                update={"accuracy": -other.accuracy, "low": -other.high, "high": -other.low}
            )
    return point if point is not None and finite(point.accuracy) else None


def search_runs(results: StudyResults) -> list[RunResult]:
    """The search trials in the order in which they started."""
    return sorted((run for run in results.runs if run.phase == "search"), key=lambda run: run.number)


def winner_keys(summary: StudySummary) -> set[str]:
    """Keys of the search trials that the selection rule chose."""
    return {method.winner for method in summary.methods if method.winner is not None}


def estimate(method: MethodSummary, name: str) -> Estimate | None:
    """The method's test metric, by its name with or without the split in front."""
    return method.estimates.get(f"test/{name}", method.estimates.get(name))


def validation(run: RunResult, name: str) -> float:
    """The run's last validation metric, by its name with or without the split in front; NaN if it has none."""
    return run.validation.get(f"validation/{name}", run.validation.get(name, math.nan))


def empty_groups(results: StudyResults) -> list[GroupCount]:
    """Groups of the test split without a single example."""
    found = {(g.label, g.attribute): g for run in results.runs for g in run.groups if g.count == 0}
    return [found[key] for key in sorted(found)]


def study_configs(summary: StudySummary) -> dict[str, Mapping[str, object]]:
    """The configuration by study name; several where studies are compared."""
    held = summary.config.get("studies")
    if isinstance(held, Mapping) and held and all(isinstance(config, Mapping) for config in held.values()):
        return dict(held)
    return {summary.study: summary.config}


def configured_values(summary: StudySummary, *path: str) -> list[object]:
    """The distinct values that the studies' configurations hold under `path`, in their order."""
    found: list[object] = []
    for config in study_configs(summary).values():
        value: object = config
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None and value not in found:
            found.append(value)
    return found


def search_ranges(summary: StudySummary, label: str) -> dict[str, Range]:
    """The ranges that the study file gives for a method, by dotted setting; `study/label` where compared."""
    configs = study_configs(summary)
    study, slash, own = label.partition("/")
    config = configs[study] if slash and study in configs else summary.config
    methods = config.get("methods")
    settings = (
        methods.get(own if config is not summary.config else label) if isinstance(methods, Mapping) else None
    )
    return dict(_ranges(settings)) if isinstance(settings, Mapping) else {}


def _ranges(settings: Mapping[str, object], path: str = "") -> Iterable[tuple[str, Range]]:
    for key, value in settings.items():
        try:
            found = parse_range(value)
        except RangeError:  # results may come from a version with other rules
            found = None
        if found is not None:
            yield path + key, found
        elif isinstance(value, Mapping):
            yield from _ranges(value, f"{path}{key}.")


def target_severity(summary: StudySummary) -> float | None:
    """Severity of the shifted accuracy; None where the studies differ in it or none states it."""
    # A comparison states the one that was used for all.
    used = summary.config.get("evaluation")
    used = used.get("target_severity") if isinstance(used, Mapping) else None
    targets = [used] if used is not None else configured_values(summary, "evaluation", "target_severity")
    return float(targets[0]) if len(targets) == 1 and isinstance(targets[0], int | float) else None


def training_severity(summary: StudySummary) -> float | None:
    """Where the training mix lies on the curve that methods are compared on, to a hundredth.

    None where the studies differ in it, or where neither training counts nor the data set's settings determine it.
    """
    if mixture_of(summary) != MIXTURE:
        return 0.0
    counted = {
        round(share, 2) for m in summary.methods if (share := _conflicting_share(m.groups)) is not None
    }
    if counted:
        return counted.pop() if len(counted) == 1 else None
    told = {_training_severity(dataset) for dataset in configured_values(summary, "dataset")}
    return told.pop() if len(told) == 1 else None


def _conflicting_share(groups: Sequence[GroupEstimate]) -> float | None:
    """Bias-conflicting share of training, each class weighed as in the test split; None without counts."""
    total, found = sum(group.count for group in groups), 0.0
    for label in {group.label for group in groups if group.count}:
        own = [group for group in groups if group.label == label]
        training = sum(group.training_count for group in own)
        if not training or any(group.aligned is None for group in own):
            return None
        conflicting = sum(group.training_count for group in own if not group.aligned) / training
        found += conflicting * sum(group.count for group in own) / total
    return found if total else None


def _training_severity(dataset: object) -> float | None:
    if not isinstance(dataset, Mapping):
        return None
    stated = dataset.get("train_agreements", dataset.get("train_agreement"))
    # Several training environments are of equal size, so their mean is the mix of the whole split.
    agreements = stated if isinstance(stated, list | tuple) else [stated]
    if not agreements or not all(isinstance(a, int | float) and 0 <= a <= 1 for a in agreements):
        return None
    return 1 - sum(agreements) / len(agreements)


def final_estimate(results: StudyResults, method: MethodSummary, name: str) -> Estimate | None:
    """The method's test metric over its final runs: with interval, or the plain mean where none was made."""
    found = estimate(method, name)
    if found is not None and finite(found.mean):
        return found
    finals = {run.trial: run for run in results.runs}
    values = [finals[key].metrics.get(name, math.nan) for key in method.final_runs if key in finals]
    mean = sum(values) / len(values) if values else math.nan
    return Estimate(mean=mean, low=math.nan, high=math.nan) if finite(mean) else None


def shifted_accuracy(summary: StudySummary, method: MethodSummary) -> float:
    """The method's test accuracy at the target severity; NaN where there is none."""
    found = estimate(method, SHIFTED)
    if found is not None:
        return found.mean
    target = target_severity(summary)
    point = point_at(curve_points(method, mixture_of(summary)), target) if target is not None else None
    return point.accuracy if point is not None else math.nan


def pareto_front(places: Sequence[tuple[float, float]]) -> list[int]:
    """Places (cost, gain) that no other beats in both, by rising cost: indices into `places`."""
    front: list[int] = []
    for index in sorted(range(len(places)), key=lambda i: (places[i][0], -places[i][1])):
        if not front or places[index][1] > places[front[-1]][1]:
            front.append(index)
    return front


def class_name(summary: StudySummary, label: int) -> str:
    """The class's name, or its label where the data set names none."""
    return summary.class_names[label] if label < len(summary.class_names) else f"label {label}"


def attribute_name(summary: StudySummary, attribute: int) -> str:
    """The attribute value's name, or its number where the data set names none."""
    known = attribute < len(summary.attribute_names)
    return summary.attribute_names[attribute] if known else f"attribute {attribute}"


def cause_of(run: RunResult) -> str:
    """Why the run failed or was stopped; empty for a completed one."""
    if run.status == "failed":
        failure = run.failure
        return f"{failure.kind}: {failure.message}" if failure else "no cause was recorded"
    if run.status == "stopped":
        return run.stop_reason or "stopped by the scheduler"
    return ""
