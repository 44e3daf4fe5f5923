"""Invariance Pair-Guided learning (Surner, Khelil, Bothmann; arXiv 2502.18975).

From the paper: invariance pairs isolate the spurious attribute; a corrective gradient computed from the
members' rationale matrices complements gradient descent in a second update; it is adaptive, led by a predefined
invariance condition. Our reading: the measure `rho`, the adaptivities, `additive` and the `logit` discrepancy.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from ipgl.config import Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import Needs, StepReport, Toolbox
from ipgl.methods.ipg.condition import ADAPTIVITIES, invariance_ratio, pair_moments
from ipgl.methods.ipg.discrepancy import DISCREPANCIES
from ipgl.methods.ipg.update import UPDATES, Correction
from ipgl.models import Classifier


class IpgSettings(Settings):
    """Settings of `ipg`."""

    update: Literal["sequential", "additive"] = "sequential"
    discrepancy: Literal["rationale", "logit"] = "rationale"
    adaptivity: Literal["off", "gate", "proportional"] = "gate"
    strength: float = Field(
        1.0, ge=0, description="Corrective step in units of the task's learning rate; 0 leaves ERM."
    )
    invariance_threshold: float = Field(
        0.01,
        ge=0,
        description="The condition is rho <= this; rho: 0 alike, about 1 as different as strangers.",
    )
    pairs_per_step: int = Field(
        64, ge=2, description="Pairs in one step over all workers; capped at their number."
    )


class Ipg:
    """Follow the task's gradient, and a corrective one for as long as the pairs violate the invariance condition."""

    needs = Needs(pairs=True)

    def __init__(self, settings: IpgSettings, toolbox: Toolbox) -> None:
        self.pairs_per_step = settings.pairs_per_step
        self._settings = settings
        self._discrepancy = DISCREPANCIES[settings.discrepancy]
        self._adaptivity = ADAPTIVITIES[settings.adaptivity]
        self._sum_over_workers = toolbox.sum_over_workers
        self._update = UPDATES[settings.update](self._correction, toolbox)

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One update from a batch and invariance pairs."""
        assert pairs is not None, "the trainer gives pairs to a method that needs them"
        return self._update(model, batch, pairs)

    def _correction(self, model: Classifier, z_a: Tensor, z_b: Tensor) -> Correction:
        discrepancy = self._discrepancy(z_a, z_b, model.head)
        moments = pair_moments(model.head(z_a.detach()), model.head(z_b.detach()))
        measure = invariance_ratio(self._sum_over_workers(moments)).to(discrepancy.dtype)
        weight = self._adaptivity(measure, self._settings.invariance_threshold)
        loss = self._settings.strength * weight * discrepancy
        return Correction(loss, weight, discrepancy.detach(), measure)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: these updates are stateless."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""
