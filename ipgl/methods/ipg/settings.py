"""Settings of `ipg`, each with its unit and the value that switches it off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ipgl.config import Settings


class AugmentSettings(Settings):
    """One random change of a pair, alike for both members, so that few pairs do not become a fixed list to memorise."""

    shift_pixels: int = Field(0, ge=0, description="Largest shift in either direction; 0 is off.")
    rotate_degrees: float = Field(0.0, ge=0, le=180, description="Largest rotation either way; 0 is off.")
    scale: float = Field(0.0, ge=0, lt=1, description="Largest relative change of size; 0 is off.")
    flip: bool = Field(False, description="Mirror left and right with probability 1/2.")
    mix: float = Field(0.0, ge=0, description="Beta parameter of mixing two pairs in one share; 0 is off.")

    @property
    def moves(self) -> bool:
        """Whether anything but mixing is asked for."""
        return bool(self.shift_pixels or self.rotate_degrees or self.scale or self.flip)


class AdversarialSettings(Settings):
    """IPG-AA (paper): before the correction, pair members move so as to differ more."""

    steps: int = Field(0, ge=0, description="Projected gradient steps; 0 is off.")
    epsilon: float = Field(0.1, gt=0, description="Radius of the L-inf ball; 1 is the whole pixel range.")
    step_size: float = Field(0.05, gt=0, description="Length of one step in the same unit.")
    random_start: bool = Field(False, description="Start from a random point of the ball.")


class IpgSettings(Settings):
    """Settings of `ipg`."""

    update: Literal["sequential", "additive", "lagrangian", "projected"] = "sequential"
    discrepancy: Literal["rationale", "centred_rationale", "logit", "probability", "feature"] = "rationale"
    hidden_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the hidden layers' squared differences beside the discrepancy; 0 is off.",
    )
    adaptivity: Literal["off", "gate", "proportional"] = "gate"
    measure: Literal["rho", "discrepancy"] = Field("rho", description="What the invariance condition judges.")
    invariance_threshold: float = Field(
        0.01,
        ge=0,
        description="The condition is measure <= this; rho: 0 alike, about 1 as different as strangers.",
    )
    strength: float = Field(
        1.0, ge=0, description="Weight of the discrepancy, or of the corrective step; 0 leaves ERM."
    )
    corrective_optimiser: Literal["sgd", "task", "adam"] = Field(
        "sgd",
        description="Second step of `sequential`: plain descent, the task's own optimiser, or an Adam apart.",
    )
    multiplier_rate: float = Field(
        0.05, gt=0, description="`lagrangian`: largest relative change of the strength in one step."
    )
    warmup_share: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps over which strength rises from 0."
    )
    every: int = Field(1, ge=1, description="Correct in every so many-th step.")
    pairs_per_step: int = Field(
        64, ge=2, description="Pairs in one step over all workers; capped at their number."
    )
    augment: AugmentSettings = AugmentSettings()
    adversarial: AdversarialSettings = AdversarialSettings()

    @model_validator(mode="after")
    def _optimiser_is_used(self) -> IpgSettings:
        if self.corrective_optimiser != "sgd" and self.update != "sequential":
            raise ValueError(
                "corrective_optimiser belongs to update: sequential (the others take one step), "
                f"but got corrective_optimiser={self.corrective_optimiser}, update={self.update}"
            )
        return self


@dataclass(frozen=True)
class Strengths:
    """The numbers among the settings, by which trials of one kind may differ: of one model, or `[M]` of a stack."""

    strength: float | Tensor
    invariance_threshold: float | Tensor
    hidden_weight: float | Tensor
    multiplier_rate: float | Tensor

    @classmethod
    def of(cls, settings: IpgSettings) -> Strengths:
        """Those of one model."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    @classmethod
    def stacked(cls, settings: Sequence[IpgSettings], device: torch.device) -> Strengths:
        """Those of several models, each `[M]`."""

        def values(name: str) -> Tensor:
            return torch.tensor([float(getattr(one, name)) for one in settings], device=device)

        return cls(**{field.name: values(field.name) for field in fields(cls)})
