"""`RunResult`, the outcome of one run, stored as JSON and read by tables, figures and MLflow."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from ipgl.config import Phase

# JSON has no NaN: it is written as null and read back as NaN.
MaybeNaN = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value, when_used="json"),
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GroupCount(_Record):
    """How often one (label, attribute) group of the test split was classified correctly.

    Attributes:
        aligned: Whether its attribute agrees with its label (`ipgl.data.Alignment`); None where no alignment exists.
        count: Test examples.
        correct: Those classified correctly.
        training_count: Training examples; 0 is a group that training never sees.
    """

    label: int
    attribute: int
    aligned: bool | None
    count: int
    correct: int
    training_count: int = 0

    @property
    def accuracy(self) -> float:
        """Share classified correctly; NaN for an empty group."""
        return self.correct / self.count if self.count else math.nan


class CurvePoint(_Record):
    """One point of a robustness curve; `ipgl.evaluation.curve_types` says what its axis and its value are.

    Attributes:
        severity: Place on the curve's axis; on the curve `mixture` the bias-conflicting share in [0, 1].
        agreement: On the curve `mixture` `1 - severity`, the share of examples whose attribute agrees with their
            label; NaN on others.
        accuracy: The curve's value, a fraction; NaN where a group that it needs is empty.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
    """

    severity: float
    agreement: MaybeNaN = math.nan
    accuracy: MaybeNaN
    low: MaybeNaN
    high: MaybeNaN


class Failure(_Record):
    """Why a run did not finish."""

    kind: str
    message: str
    step: int | None = None
    traceback: str = ""


class RunResult(_Record):
    """The outcome of one run (a search trial or a final run).

    Attributes:
        label: The method's name in the study file; `method` is the registry entry.
        trial: The run's key, unique in its study.
        number: Order in which the study started its trials.
        status: `stopped` means that a search trial ended early, by the scheduler or for `stop_reason`.
        score: The selection rule's value after the last evaluation; NaN if there was none.
        validation: Last validation metrics; no test data is in them.
        metrics: Test metrics; empty unless the run was completed.
        groups: Test counts per group; empty unless the run was completed.
        curves: Curve name -> points by the study's order of severities, radii or levels.
        config: The resolved `TrialConfig`.
        data_notes: What the user should know about the data (skipped images, empty groups), a sentence each.
        test_fingerprint: Hash of the test split's labels and attributes; runs that share it can be paired.
        train_seconds: Wall time of training, evaluations included, over all attempts.
    """

    study: str
    label: str
    method: str
    phase: Phase
    trial: str
    number: int = 0
    seed: int
    status: Literal["completed", "stopped", "failed"]
    failure: Failure | None = None
    stop_reason: str = ""
    score: MaybeNaN = math.nan
    hyperparameters: dict[str, Any] = {}
    validation: dict[str, MaybeNaN] = {}
    metrics: dict[str, MaybeNaN] = {}
    groups: tuple[GroupCount, ...] = ()
    curves: dict[str, tuple[CurvePoint, ...]] = {}
    config: dict[str, Any] = {}
    config_hash: str = ""
    data_fingerprint: str = ""
    test_fingerprint: str = ""
    class_names: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()
    data_notes: tuple[str, ...] = ()
    steps: int = 0
    train_seconds: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    environment: dict[str, str] = {}
