"""Questions that text, tables and figures all ask of a study's results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ipgl.evaluation.result import CurvePoint, GroupCount, RunResult
from ipgl.evaluation.summary import Estimate, MethodSummary, StudyResults, StudySummary
from ipgl.report.wording import finite

CURVE = "mixture"
AVERAGE = "average"
WORST_GROUP = "worst_group"
WORST_NONEMPTY_GROUP = "worst_nonempty_group"
ACCURACY = "accuracy"
FLIP_RATE = "flip_rate"


def curve_points(method: MethodSummary, curve: str = CURVE) -> list[CurvePoint]:
    """The method's curve from the easiest mix to the hardest; empty where it has none."""
    return sorted(method.curves.get(curve, ()), key=lambda point: point.severity)


def point_at(points: Iterable[CurvePoint], severity: float) -> CurvePoint | None:
    """The point at `severity`, or None."""
    return next((point for point in points if math.isclose(point.severity, severity, abs_tol=1e-9)), None)


def severities(summary: StudySummary, curve: str = CURVE) -> list[float]:
    """Every severity that some method's curve holds, rising."""
    return sorted({point.severity for method in summary.methods for point in curve_points(method, curve)})


def difference_at(summary: StudySummary, first: str, second: str, severity: float) -> CurvePoint | None:
    """`first - second` at `severity`, whichever way round it is held; None where it is not a number."""
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


def training_severity(summary: StudySummary) -> float | None:
    """Bias-conflicting share of the training mix; None where the data set's settings do not tell it."""
    dataset = summary.config.get("dataset")
    if not isinstance(dataset, Mapping):
        return None
    stated = dataset.get("train_agreements", dataset.get("train_agreement"))
    # Several training environments are of equal size, so their mean is the mix of the whole split.
    agreements = stated if isinstance(stated, list | tuple) else [stated]
    if not agreements or not all(isinstance(a, int | float) and 0 <= a <= 1 for a in agreements):
        return None
    return 1 - sum(agreements) / len(agreements)
