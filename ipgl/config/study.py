"""Schema of the study file. Settings of data set, model and methods are checked by their registry entries.

`ipgl.plan.study_plan` checks those sections against the settings class of the entry that they name.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ipgl.config.base import Settings
from ipgl.config.training import TrainingSettings

LABEL_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}$"


def _label(value: str) -> str:
    if not re.fullmatch(LABEL_PATTERN, value):
        raise ValueError(
            "a name is 1 to 64 of a-z, 0-9, `_`, `.` and `-` and begins with a letter or digit "
            f"(it becomes a folder), but got {value!r}"
        )
    return value


def _alignment(value: object) -> object:
    named = list(value.values()) if isinstance(value, dict) else value
    if value not in ("auto", "none") and not (
        isinstance(named, list | tuple)
        and len(named) > 0
        and all(isinstance(v, int | str) and not isinstance(v, bool) for v in named)
    ):
        raise ValueError(
            "input should be auto, none, or each class's attribute value, by name or number: "
            f"{{class: value, ...}} or [value, ...] by label, but got {value!r}"
        )
    return value


def _unit_interval(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"a severity is a share in [0, 1] (0.9 means 90% bias-conflicting), but got {value!r}"
        )
    return value


def _share(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"a share lies in [0, 1], but got {value!r}")
    return value


Label = Annotated[str, AfterValidator(_label)]
Severity = Annotated[float, AfterValidator(_unit_interval)]
Share = Annotated[float, AfterValidator(_share)]
AlignmentChoice = Annotated[
    Literal["auto", "none"] | dict[str, int | str] | tuple[int | str, ...], BeforeValidator(_alignment)
]
Radius = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Source = Literal["weights", "pairs", "data"]
CurveName = Literal["mixture", "worst_case_kl", "worst_case_tv", "interpolation", "corruption"]


class Component(BaseModel):
    """A registry entry by name, with its settings as further keys of the same mapping."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def settings(self) -> dict[str, object]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class SchedulerSettings(Settings):
    """Which trials stop early. `asha` is asynchronous successive halving (Li et al. 2020)."""

    name: Literal["asha", "none"] = "asha"
    grace_evaluations: int = Field(2, ge=1, description="No trial stops before this many evaluations.")
    reduction_factor: float = Field(3, gt=1, description="One in this many trials survives a rung.")


class SearchSettings(Settings):
    """How settings are searched, winners chosen, and how often the winners are retrained."""

    sampler: Literal["tpe", "random"] = "tpe"
    startup_trials: int = Field(
        10, ge=1, description="TPE draws this many trials at random before it models."
    )
    scheduler: SchedulerSettings = SchedulerSettings()
    trials: int = Field(16, ge=1, description="Trials per method; a method without ranges runs one.")
    concurrency: int | None = Field(
        None, ge=1, description="Trials at once; null is as many as the cluster holds."
    )
    pack: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="Trials of one process that train as one batched model; 1 is off, auto packs where that was "
        "measured to pay (the report says what it chose); Ray Tune leads trials that are not packed.",
    )
    selection: str = Field(
        "pair_robust",
        description="Rule that ranks trials and chooses winners; one for all methods. `pair_robust` is Cohen's kappa "
        "times (1 - flip rate)^2, `pair_accuracy` accuracy times (1 - flip rate).",
    )
    seed: int = Field(0, ge=0, description="Seed of the sampler and of every search trial.")
    final_seeds: int = Field(
        3, ge=1, description="Fresh seeds on which each winner is retrained and then tested."
    )
    vary: tuple[Source, ...] = Field(
        ("weights",),
        min_length=1,
        description="What each final run draws afresh: weights (initial weights, batch order, the method's own "
        "randomness), pairs (which examples become pairs), data (noise, colours, a drawn split). With two or more, "
        "each final run is repeated once per source with that source alone drawn again: components of variance.",
    )

    @field_validator("vary")
    @classmethod
    def _distinct_sources(cls, vary: tuple[Source, ...]) -> tuple[Source, ...]:
        if len(set(vary)) < len(vary):
            raise ValueError(f"the sources must be distinct, but got {list(vary)}; name each once")
        return vary


class EvaluationSettings(Settings):
    """What is computed on the test split."""

    alignment: AlignmentChoice = Field(
        "auto",
        description="Attribute value that agrees with each class: {class: value, ...} or [value, ...] by label; "
        "auto finds it by association in training, none compares without one (the general mixture).",
    )
    severities: tuple[Severity, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(11)),
        min_length=1,
        description="Points of the mixture curve: bias-conflicting shares of the test mix; without an alignment, "
        "places between the training mix (0) and equal groups within each class (1).",
    )
    target_severity: Severity = Field(
        0.9,
        description="Severity whose test accuracy stands for robustness (`shifted_accuracy`); no choice reads it.",
    )
    curves: tuple[CurveName, ...] = Field(
        ("mixture", "worst_case_kl", "worst_case_tv", "interpolation", "corruption"),
        description="Robustness curves; `corruption` stands for all that the data set knows, for final runs.",
    )
    worst_case_mix: Literal["training", "test"] = Field(
        "training", description="Group mix in the centre of the worst-case curves' balls."
    )
    kl_radii: tuple[Radius, ...] = Field(
        (0, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 3), min_length=1, description="Kullback-Leibler radii in nats."
    )
    tv_radii: tuple[Share, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(11)), min_length=1, description="Total-variation radii."
    )
    interpolation_points: int = Field(11, ge=2, description="Points from one pair member to the other.")
    corruption_levels: tuple[Share, ...] = Field(
        (0, 0.25, 0.5, 0.75, 1), min_length=1, description="Strengths of each corruption."
    )
    permutations: int = Field(
        10_000,
        ge=100,
        description="Permutations behind each p-value that speaks of the trained models alone.",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="Level of every interval.")

    @model_validator(mode="before")
    @classmethod
    def _without_resamples(cls, data: object) -> object:
        """Drop the key `resamples`, which study files of earlier versions may hold."""
        return {k: v for k, v in data.items() if k != "resamples"} if isinstance(data, dict) else data

    @property
    def alpha(self) -> float:
        """`1 - confidence`, without what binary fractions leave: 0.05 for 0.95."""
        return round(1 - self.confidence, 12)

    @model_validator(mode="after")
    def _distinct(self) -> EvaluationSettings:
        for name in ("severities", "kl_radii", "tv_radii", "corruption_levels", "curves"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must be distinct, but got {list(values)}")
        if "mixture" not in self.curves:
            raise ValueError(
                f"curves must hold `mixture`, which every comparison is made on, but got {list(self.curves)}"
            )
        return self


class ResourceSettings(Settings):
    """Resources of one trial."""

    workers: int = Field(
        1, ge=1, description="Processes that share a trial's batches; 1 trains inside the trial."
    )
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0, description="A fraction lets trials share a GPU.")
    use_gpu: bool = Field(False, description="Ask for GPUs: gpus_per_worker, or 1 where that is 0.")
    max_failures: int = Field(2, ge=0, description="Times a trial whose process died is started again.")

    @model_validator(mode="after")
    def _consistent(self) -> ResourceSettings:
        if self.gpus_per_worker > 0 and not self.use_gpu:
            raise ValueError(
                f"gpus_per_worker > 0 needs use_gpu: true, but got gpus_per_worker={self.gpus_per_worker}"
            )
        return self

    @property
    def gpus(self) -> float:
        """GPUs for each worker."""
        return (self.gpus_per_worker or 1.0) if self.use_gpu else 0.0


class TrackingSettings(Settings):
    """Where runs are tracked."""

    name: str = Field("mlflow", description="Tracker; `none` keeps results on storage alone.")
    uri: str | None = Field(None, description="Server or database; null is SQLite in the storage folder.")
    experiment: str = Field("ipgl", min_length=1, description="Experiment that holds the study's runs.")


class StudyConfig(Settings):
    """One study: a question, the methods compared, and everything needed to answer it again."""

    name: Label
    question: str = Field("", description="What the study asks, in a sentence; shown in the report.")
    dataset: Component
    model: Component
    methods: dict[Label, dict[str, object]] = Field(
        min_length=1,
        description="Label -> settings; values or search ranges. `method` names another entry than the label.",
    )
    training: TrainingSettings = TrainingSettings()
    search: SearchSettings = SearchSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    resources: ResourceSettings = ResourceSettings()
    tracking: TrackingSettings = TrackingSettings()
    storage: str = Field("runs", min_length=1, description="Folder that holds one folder per study.")
    imports: tuple[str, ...] = Field(
        (),
        description="Python files (relative to this file) or modules that register methods, models or data sets.",
    )

    @field_validator("resources")
    @classmethod
    def _batch_divides(cls, resources: ResourceSettings, info: ValidationInfo) -> ResourceSettings:
        training = info.data.get("training")  # absent if it broke a rule of its own
        if training and training.batch_size % resources.workers:
            raise ValueError(
                "training.batch_size must be a multiple of resources.workers (each worker takes an equal share), "
                f"but got batch_size={training.batch_size}, workers={resources.workers}"
            )
        return resources
