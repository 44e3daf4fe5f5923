"""Conversion to MLflow's values: legal names, parameters of limited length, metrics with step and time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ipgl.core.flatten import flatten
from ipgl.evaluation.curve_types import curve_type
from ipgl.evaluation.run_result import CurvePoint, RunResult
from ipgl.evaluation.study_summary import Estimate, MethodSummary, StudySummary
from ipgl.tracking.base import RunView, StudyView

METRICS_PER_CALL = 1000
PARAMETERS_PER_CALL = 100
LONGEST_PARAMETER = 500
_LONGEST_NAME = 250
# Test metrics of the tables that open first, the most informative first; all others are recorded too.
HEADLINES = (
    "shifted_accuracy",
    "worst_group",
    "average",
    "area_mixture",
    "area_general_mixture",
    "area_worst_case_tv",
)
_WORST_CASE = "worst_case_tv"
# Radius 0 is the centre's group mix and radius 1 the worst group, which have metrics of their own.
_WORST_CASE_RADIUS = 0.5
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")
# A row's place and time, not measurements; `epoch` stays, because every row has it and the tracker asks the
# server for its steps to learn which rows are there.
_ROW_KEYS = ("step", "time")
ROW_MARKER = "epoch"


class Point(NamedTuple):
    """One metric value; `milliseconds` since the epoch. Logging the same point again changes nothing."""

    name: str
    value: float
    milliseconds: int
    step: int


def truncated(text: str, longest: int) -> str:
    """At most `longest` characters, the last one `…` if anything is missing."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def safe_name(name: str) -> str:
    """A name that MLflow accepts for parameters and metrics."""
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]


def milliseconds(seconds: float) -> int:
    """Seconds since the epoch as MLflow counts them."""
    return round(seconds * 1000)


def parameter_texts(parameters: Mapping[str, object]) -> dict[str, str]:
    """Parameters as short text by accepted names; text stays as it is, anything else is written as JSON."""
    return {
        safe_name(key): truncated(
            value if isinstance(value, str) else json.dumps(value, default=str), LONGEST_PARAMETER
        )
        for key, value in parameters.items()
    }


def study_parameters(study: StudyView) -> dict[str, object]:
    """The study file without what is shown elsewhere or may hold an address."""
    elsewhere = ("name", "question", "tracking", "storage")
    return flatten({key: value for key, value in study.config.items() if key not in elsewhere})


def row_points(row: Mapping[str, float]) -> list[Point]:
    """One evaluation's metrics."""
    step, time = int(row["step"]), milliseconds(row["time"])
    return [Point(safe_name(name), finite(row[name]), time, step) for name in row if name not in _ROW_KEYS]


def finite(value: float) -> float:
    """The value, or NaN for an infinity, which MLflow would store as 1.8e308 and which ruins a chart's axis."""
    return float(value) if math.isfinite(value) else math.nan


def point_batches(rows: Iterable[Sequence[Point]]) -> Iterator[list[Point]]:
    """Join rows into calls of at most 1000 points; a row is never divided, so each is logged whole or not at all."""
    batch: list[Point] = []
    for row in rows:
        if batch and len(batch) + len(row) > METRICS_PER_CALL:
            yield batch
            batch = []
        batch.extend(row)
    if batch:
        yield batch


def curve_points(name: str, curve: Sequence[CurvePoint], ended: float) -> list[Point]:
    """A robustness curve as one metric whose step is 100 times the severity: a share's axis runs from 0 to 100."""
    time, metric = milliseconds(ended), safe_name(curve_type(name).metric)
    return [
        Point(metric, point.accuracy, time, round(100 * point.severity))
        for point in curve
        if not math.isnan(
            point.accuracy
        )  # a gap in the line says it; NaN at the last step would hide the others
    ]


def outcome_name(name: str) -> str:
    """A test metric's name in MLflow: `area_<curve>` becomes `area/<curve>`, anything else `test/<name>`."""
    for prefix in ("area/", "area_"):
        if name.startswith(prefix):
            return safe_name(f"area/{name.removeprefix(prefix)}")
    return safe_name(f"test/{name}")


def worst_case(curves: Mapping[str, Sequence[CurvePoint]]) -> dict[str, CurvePoint]:
    """One point of the worst-case curve as a metric that sorts: that of the total-variation radius nearest to 0.5.

    Returns:
        `worst_case_tv_<radius>` -> point; empty without that curve.
    """
    points = curves.get(_WORST_CASE, ())
    if not points:
        return {}
    point = min(points, key=lambda point: abs(point.severity - _WORST_CASE_RADIUS))
    return {f"{_WORST_CASE}_{point.severity:g}": point}


def headlines(methods: Iterable[MethodSummary]) -> list[str]:
    """Metrics of the tables that open first, as far as any method has them; the areas come last."""
    methods = list(methods)
    known = {name for method in methods for name in method.estimates}
    at_radius = {name: None for method in methods for name in worst_case(method.curves)}
    return [*(name for name in HEADLINES if name in known), *at_radius]


def outcome_points(run: RunView, result: RunResult) -> list[Point]:
    """Test metrics as scalars for tables, and the score."""
    points = scalar_points(result)
    if not any("score" in row for row in run.rows):  # otherwise the last row's is the same value
        points.append(Point("score", finite(result.score), milliseconds(result.finished_at), result.steps))
    return points


def scalar_points(result: RunResult) -> list[Point]:
    """Test metrics, the worst case among them."""
    time = milliseconds(result.finished_at)
    metrics = result.metrics | {name: point.accuracy for name, point in worst_case(result.curves).items()}
    return [Point(outcome_name(name), finite(value), time, 0) for name, value in metrics.items()]


def estimates(method: MethodSummary) -> dict[str, Estimate]:
    """A method's test metrics over its final seeds, the worst case among them."""
    return method.estimates | {
        name: Estimate(mean=point.accuracy, low=point.low, high=point.high)
        for name, point in worst_case(method.curves).items()
    }


def summary_points(summary: StudySummary, ended: float) -> list[Point]:
    """Every method's estimates as scalars `<label>/<metric>`, `<label>/<metric>_low` and `<label>/<metric>_high`.

    One slash each: MLflow then shows one section of charts per method. A metric without an interval has no ends.
    """
    return [
        Point(
            safe_name(f"{method.label}/{metric.replace('/', '_')}{end}"),
            finite(value),
            milliseconds(ended),
            0,
        )
        for method in summary.methods
        for metric, estimate in estimates(method).items()
        for end, value in (("", estimate.mean), ("_low", estimate.low), ("_high", estimate.high))
        if not (end and math.isnan(value))
    ]
