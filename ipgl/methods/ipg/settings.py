"""Settings of `ipg`, each with its unit and the value that switches it off."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from ipgl.config import Settings
from ipgl.methods.base import Number
from ipgl.models import Classifier


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

    update: Literal["balanced", "sequential", "additive", "lagrangian", "projected"] = "balanced"
    discrepancy: Literal["rationale", "centred_rationale", "logit", "probability", "feature"] = "rationale"
    norm: Literal["squared", "plain"] = Field(
        "squared",
        description="Mean over pairs of squared distances, or of distances, whose gradient does not vanish with them.",
    )
    through: Literal["both", "representation", "head"] | None = Field(
        None,
        description="What the discrepancy's gradient moves; representation holds the head's weights constant in it, "
        "head the features; null is representation where the model's features are trained and else both.",
    )
    task_share: float = Field(
        2 / 3,
        gt=0,
        description="`balanced`: while the condition is violated, the task gradient's length as a share of the "
        "corrective gradient's; 2/3 in the paper.",
    )
    scaled: Literal["corrective", "task"] = Field(
        "corrective",
        description="`balanced`: which gradient is scaled to make that share; task in the paper, for plain descent.",
    )
    balance_over: Literal["network", "layer"] = Field(
        "network", description="`balanced`: lengths over all parameters, or for each layer apart."
    )
    hidden_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the hidden layers' squared differences beside the discrepancy; 0 is off. For attributes "
        "that early layers can remove, such as colour; a background they cannot, and training collapses.",
    )
    adaptivity: Literal["off", "gate", "proportional"] = "gate"
    measure: Literal["rho", "discrepancy"] = Field("rho", description="What the invariance condition judges.")
    invariance_threshold: float = Field(
        0.003,
        ge=0,
        description="The condition is measure <= this; rho: 0 alike, about 1 as different as strangers.",
    )
    least_spread: float = Field(
        0.1,
        ge=0,
        description="Added to the variance by which rho divides, in squared nats: a network whose class-centred logits "
        "vary by much less counts as invariant and is left to the task, so that it cannot stay collapsed; 0 is off.",
    )
    strength: float = Field(
        1.0,
        ge=0,
        description="Weight of the discrepancy, or of the corrective step; 0 leaves ERM. `balanced` needs none: there "
        "it multiplies the corrective gradient's balanced length.",
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

    def on(self, model: Classifier) -> IpgSettings:
        """These settings for a model: what a correction moves is left to it where they do not say.

        Raises:
            ValueError: The hidden layers are to count, but the model names none; or the correction is to move features
                that are not trained.
        """
        trained = any(parameter.requires_grad for parameter in model.features.parameters())
        if self.hidden_weight and not model.has_hidden:
            raise ValueError(
                "hidden_weight needs a model that names its hidden layers; set it to 0 for this model"
            )
        if self.through == "representation" and not trained:
            raise ValueError(
                "through: representation needs a model whose features are trained; leave it out, or set both"
            )
        if self.through is not None:
            return self
        return self.model_copy(update={"through": "representation" if trained else "both"})

    @model_validator(mode="after")
    def _optimiser_is_used(self) -> IpgSettings:
        if self.corrective_optimiser != "sgd" and self.update != "sequential":
            raise ValueError(
                "corrective_optimiser belongs to update: sequential (the others take one step), "
                f"but got corrective_optimiser={self.corrective_optimiser}, update={self.update}"
            )
        return self


class Numbers(NamedTuple):
    """The numbers among the settings by which trials of one kind may differ, as of one step.

    Attributes:
        strength: The setting, scaled by the warm-up.
        log_strength: Natural logarithm of the setting itself, 0 where it is 0.
    """

    strength: Number
    log_strength: Number
    task_share: Number
    invariance_threshold: Number
    hidden_weight: Number
    multiplier_rate: Number

    @classmethod
    def of(cls, settings: IpgSettings, warmth: float = 1.0) -> Numbers:
        """Those of a step with a share `warmth` of the full strength."""
        return cls(
            settings.strength * warmth,
            math.log(settings.strength) if settings.strength else 0.0,
            settings.task_share,
            settings.invariance_threshold,
            settings.hidden_weight,
            settings.multiplier_rate,
        )
