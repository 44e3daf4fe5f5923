"""Results as JSON."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from ipgl.evaluation import CurvePoint, Estimate, Failure, GroupCount, RunResult

POINT = CurvePoint(severity=1.0, agreement=0.0, accuracy=math.nan, low=math.nan, high=0.5)


def result(**changes: object) -> RunResult:
    fields = {
        "study": "s",
        "label": "erm",
        "method": "erm",
        "phase": "search",
        "trial": "erm-0",
        "seed": 3,
        "status": "completed",
        "hyperparameters": {"lr": 0.1, "update": "additive", "clip": None},
        "validation": {"accuracy": 0.75, "rho": math.nan},
        "metrics": {"worst_group": math.nan, "average": 1 / 3},
        "groups": (GroupCount(label=0, attribute=1, aligned=False, count=0, correct=0),),
        "curves": {"mixture": (POINT,)},
        "failure": Failure(kind="E", message="m", step=2),
    }
    return RunResult(**(fields | changes))


def test_nan_is_null_in_json_and_nan_again_when_read() -> None:
    first = result()
    text = first.model_dump_json()

    def refuse(constant: object) -> None:
        raise AssertionError(f"JSON has no {constant}")

    data = json.loads(text, parse_constant=refuse)
    assert data["score"] is None
    assert data["validation"] == {"accuracy": 0.75, "rho": None}
    assert data["metrics"]["worst_group"] is None
    assert data["curves"]["mixture"][0] == {
        "severity": 1.0,
        "agreement": 0.0,
        "accuracy": None,
        "low": None,
        "high": 0.5,
    }

    second = RunResult.model_validate_json(text)
    assert math.isnan(second.score)
    assert math.isnan(second.validation["rho"])
    assert math.isnan(second.metrics["worst_group"])
    assert second.metrics["average"] == 1 / 3  # to the last bit
    point = second.curves["mixture"][0]
    assert math.isnan(point.accuracy)
    assert math.isnan(point.low)
    assert point.high == 0.5
    assert second.model_dump_json() == text
    assert second.groups == first.groups
    assert second.failure == first.failure
    assert second.hyperparameters == first.hyperparameters


def test_in_python_nan_stays_nan() -> None:
    assert math.isnan(result().model_dump()["score"])


def test_infinity_leaves_valid_json() -> None:
    text = result(validation={"nll": math.inf}).model_dump_json()
    assert json.loads(text)["validation"]["nll"] is None
    assert math.isnan(RunResult.model_validate_json(text).validation["nll"])


@pytest.mark.parametrize("change", [{"status": "lost"}, {"phase": "test"}, {"flavour": 1}])
def test_refuses(change: dict[str, str | int]) -> None:
    with pytest.raises(ValidationError):
        result(**change)


def test_a_result_cannot_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        result().score = 1.0  # type: ignore[misc]


def test_estimates_may_be_unknown() -> None:
    text = Estimate(mean=math.nan, low=math.nan, high=math.nan).model_dump_json()
    assert json.loads(text) == {"mean": None, "low": None, "high": None}
    assert math.isnan(Estimate.model_validate_json(text).mean)


@pytest.mark.parametrize(("count", "correct", "expected"), [(4, 1, 0.25), (4, 0, 0.0), (4, 4, 1.0)])
def test_accuracy(count: int, correct: int, expected: float) -> None:
    assert GroupCount(label=0, attribute=0, aligned=True, count=count, correct=correct).accuracy == expected
