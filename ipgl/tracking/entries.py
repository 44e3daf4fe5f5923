"""What MLflow is given, as plain data: names that it accepts, short parameters, metrics with steps and times."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ipgl.evaluation.result import CurvePoint, RunResult
from ipgl.evaluation.summary import StudySummary
from ipgl.tracking.base import RunView, StudyView

METRICS_PER_CALL = 1000
PARAMETERS_PER_CALL = 100
LONGEST_PARAMETER = 500
_LONGEST_NAME = 250
# Test metrics that are no accuracies or repeat another one: recorded, but not in the tables that open first.
SIDE_METRICS = ("collapsed", "flip_rate", "nll", "rho", "worst_nonempty_group")
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


def cut(text: str, longest: int) -> str:
    """At most `longest` characters, the last one `…` if anything is missing."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def safe_name(name: str) -> str:
    """A name that MLflow accepts for parameters and metrics."""
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]


def milliseconds(seconds: float) -> int:
    """Seconds since the epoch as MLflow counts them."""
    return round(seconds * 1000)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def parameter_texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as short text by accepted names; text stays as it is, anything else is written as JSON."""
    return {
        safe_name(key): cut(
            value if isinstance(value, str) else json.dumps(value, default=str), LONGEST_PARAMETER
        )
        for key, value in parameters.items()
    }


def study_parameters(study: StudyView) -> dict[str, Any]:
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


def bunches(rows: Iterable[Sequence[Point]]) -> Iterator[list[Point]]:
    """Join rows into calls of at most 1000 points; a row is never divided, so each is logged whole or not at all."""
    bunch: list[Point] = []
    for row in rows:
        if bunch and len(bunch) + len(row) > METRICS_PER_CALL:
            yield bunch
            bunch = []
        bunch.extend(row)
    if bunch:
        yield bunch


def curve_points(name: str, curve: Sequence[CurvePoint], ended: float) -> list[Point]:
    """A robustness curve as one metric: the step is the severity in percent, so the chart's axis runs 0 to 100."""
    time = milliseconds(ended)
    return [
        Point(f"shift_accuracy/{safe_name(name)}", point.accuracy, time, round(100 * point.severity))
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


def outcome_points(run: RunView, result: RunResult) -> list[Point]:
    """Test metrics as scalars for tables, and the score."""
    time = milliseconds(result.finished_at)
    points = [Point(outcome_name(name), finite(value), time, 0) for name, value in result.metrics.items()]
    if not any("score" in row for row in run.rows):  # otherwise the last row's is the same value
        points.append(Point("score", finite(result.score), time, result.steps))
    return points


def summary_points(summary: StudySummary, ended: float) -> list[Point]:
    """Every method's estimates as scalars `<label>/<metric>`, `<label>/<metric>_low` and `<label>/<metric>_high`.

    One slash each: MLflow then shows one section of charts per method.
    """
    return [
        Point(
            safe_name(f"{method.label}/{metric.replace('/', '_')}{end}"),
            finite(value),
            milliseconds(ended),
            0,
        )
        for method in summary.methods
        for metric, estimate in method.estimates.items()
        for end, value in (("", estimate.mean), ("_low", estimate.low), ("_high", estimate.high))
    ]
