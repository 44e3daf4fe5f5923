"""Training settings: optimiser, schedule, precision, intervals. Imports no torch, so that checks stay fast."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ipgl.config.base import Settings


class OptimiserSettings(Settings):
    """The optimiser of the task's gradient."""

    name: Literal["sgd", "adam", "adamw"] = "adam"
    lr: float = Field(1e-3, gt=0, description="Learning rate at the schedule's height.")
    weight_decay: float = Field(0.0, ge=0, description="0 switches it off.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Used by sgd alone; 0 switches it off.")


class ScheduleSettings(Settings):
    """The learning rate as a factor of `optimiser.lr` over the run's steps."""

    name: Literal["constant", "cosine", "linear"] = "constant"
    warmup_share: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps that rise linearly from 0; 0 is off."
    )


class TrainingSettings(Settings):
    """One training run."""

    epochs: int = Field(20, ge=1, description="Passes over the training split.")
    batch_size: int = Field(
        128, ge=1, description="Examples in one step over all workers; capped at the split's size."
    )
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    clip_norm: float | None = Field(
        None, gt=0, description="Largest gradient norm; null switches clipping off."
    )
    evaluations: int = Field(
        10, ge=1, description="Evaluations and reports in a run, evenly spaced; the last is at its end."
    )
    hopeless_after: int | None = Field(
        3,
        ge=1,
        description="Evaluations in a row that show a collapsed or overshot model before a search trial stops; "
        "null never stops one.",
    )
    checkpoint_seconds: float = Field(
        10.0, ge=0, description="Least time between two checkpoints; 0 writes one at every evaluation."
    )
    checkpoints_kept: int = Field(
        1,
        ge=1,
        description="Checkpoints kept of a run that trains; if the last is damaged, the one before it serves.",
    )
    evaluation_batch_size: int = Field(
        2048,
        ge=1,
        description="Examples in one forward pass without gradients; fewer where they would not fit a CPU's cache.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes a GPU where the trial has one."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 is automatic mixed precision."
    )
