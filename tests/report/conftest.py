"""Builders of study results from hand-written numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from ipgl.evaluation.run_result import CurvePoint, Failure, RunResult
from ipgl.evaluation.study_summary import Estimate, MethodSummary, StudyResults, StudySummary

# severity -> (mean, low, high)
Curve = Mapping[float, tuple[float, float, float]]

ERM: Curve = {0.0: (0.90, 0.88, 0.92), 0.5: (0.54, 0.52, 0.56), 0.9: (0.252, 0.23, 0.274)}
IPG: Curve = {0.0: (0.70, 0.68, 0.72), 0.5: (0.68, 0.66, 0.70), 0.9: (0.664, 0.641, 0.687)}
ERM_MINUS_IPG: Curve = {0.0: (0.20, 0.17, 0.23), 0.5: (-0.14, -0.17, -0.11), 0.9: (-0.412, -0.45, -0.37)}


def points(curve: Curve) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(severity=severity, agreement=round(1 - severity, 12), accuracy=mean, low=low, high=high)
        for severity, (mean, low, high) in curve.items()
    )


def method(label: str, curve: Curve | None = None, **changes: object) -> MethodSummary:
    """A method with this mixture curve; without one, a method that nothing is known about."""
    done = curve is not None
    fields: dict[str, object] = {
        "label": label,
        "method": label,
        "winner": f"{label}-0" if done else None,
        "hyperparameters": {"lr": 0.001} if done else {},
        "score": 0.6 if done else math.nan,
        "estimates": {
            "worst_group": Estimate(mean=0.123, low=0.101, high=0.145),
            "average": Estimate(mean=0.571, low=0.561, high=0.581),
        }
        if done
        else {},
        "curves": {"mixture": points(curve)} if curve is not None else {},
        "final_runs": (f"{label}-f1", f"{label}-f2") if done else (),
        "counts": {"completed": 1, "stopped": 0, "failed": 0} if done else {"failed": 4},
    }
    return MethodSummary(**(fields | changes))


def run(label: str, number: int = 0, **changes: object) -> RunResult:
    fields: dict[str, object] = {
        "study": "colours",
        "label": label,
        "method": label,
        "phase": "search",
        "trial": f"{label}-{number}",
        "number": number,
        "seed": 0,
        "status": "completed",
        "score": 0.6,
        "hyperparameters": {"lr": 0.001},
        "validation": {"accuracy": 0.8, "flip_rate": 0.25},
    }
    return RunResult(**(fields | changes))


def failed_run(label: str, number: int = 0, message: str = "the loss is nan", **changes: object) -> RunResult:
    failure = Failure(kind="NonFiniteLoss", message=message, step=7, traceback="Traceback: train()")
    fields = {"status": "failed", "failure": failure, "validation": {}, "score": math.nan}
    return run(label, number, **(fields | changes))


def summary(
    *methods: MethodSummary, differences: Mapping[str, Curve] | None = None, **changes: object
) -> StudySummary:
    fields: dict[str, object] = {
        "study": "colours",
        "question": "Does it follow the colour?",
        "selection": "pair_robust",
        "confidence": 0.95,
        "config": {
            "name": "colours",
            "dataset": {"name": "colored_mnist", "train_agreements": [0.8, 0.9]},
            "evaluation": {"target_severity": 0.9},
        },
        "config_hash": "c0ffee",
        "data_fingerprint": "f00d",
        "environment": {"python": "3.11.9"},
        "methods": methods,
        "differences": {pair: points(curve) for pair, curve in (differences or {}).items()},
        "chance": 0.5,
        "seconds": 90.0,
    }
    return StudySummary(**(fields | changes))


def results(
    study: StudySummary, *runs: RunResult, scores: Mapping[str, list[float]] | None = None
) -> StudyResults:
    """`scores`: a run's key -> its selection score after epochs 1, 2, ..."""
    histories = {
        key: tuple({"step": 10.0 * e, "epoch": float(e), "score": score} for e, score in enumerate(values, 1))
        for key, values in (scores or {}).items()
    }
    return StudyResults(summary=study, runs=runs, histories=histories)


class Build:
    """The builders by name, so that one fixture hands them all to a test."""

    method = staticmethod(method)
    points = staticmethod(points)
    run = staticmethod(run)
    failed_run = staticmethod(failed_run)
    summary = staticmethod(summary)
    results = staticmethod(results)
    erm, ipg, erm_minus_ipg = ERM, IPG, ERM_MINUS_IPG


@pytest.fixture
def build() -> type[Build]:
    return Build


@pytest.fixture
def two_methods() -> StudyResults:
    """ERM and IPG, one search trial each, one of IPG's stopped."""
    study = summary(method("erm", ERM), method("ipg", IPG), differences={"erm - ipg": ERM_MINUS_IPG})
    return results(
        study,
        run("erm", 0, score=0.2, validation={"accuracy": 0.85, "flip_rate": 0.75}),
        run("ipg", 0, score=0.6),
        run("ipg", 1, status="stopped", score=0.3, validation={"accuracy": 0.6, "flip_rate": 0.5}),
        scores={"erm-0": [0.1, 0.15, 0.2], "ipg-0": [0.3, 0.5, 0.6], "ipg-1": [0.3]},
    )
