"""Per-group accuracies of a run as CSV, which MLflow's artifact pages draw as a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from ipgl.evaluation.metrics import wilson_interval
from ipgl.evaluation.run_result import RunResult
from ipgl.tracking.base import DataView

_COLUMNS = (
    "label",
    "attribute",
    "aligned",
    "training_examples",
    "test_examples",
    "correct",
    "accuracy",
    "low",
    "high",
)
_YES_NO = {True: "yes", False: "no", None: ""}  # None: no alignment exists


def group_table(result: RunResult, data: DataView | None, confidence: float) -> str:
    """One line of CSV for each group, by name where `data` has names.

    Args:
        result: A completed run.
        data: Gives labels and attributes their names.
        confidence: Level of the Wilson interval `low` to `high` (Wilson 1927); an empty group has neither.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for group in result.groups:
        low, high = wilson_interval(group.correct, group.count, confidence)
        writer.writerow(
            (
                name_of(group.label, data.class_names if data else ()),
                name_of(group.attribute, data.attribute_names if data else ()),
                _YES_NO[group.aligned],
                group.training_count,
                group.count,
                group.correct,
                *(_short(value) for value in (group.accuracy, low, high)),
            )
        )
    return text.getvalue()


def name_of(value: int, names: Sequence[str]) -> str:
    """The value's name, or the value itself where there is none."""
    return names[value] if value < len(names) else str(value)


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
