"""Empirical risk minimisation (Vapnik 1998): the mean cross-entropy and nothing else."""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from ipgl.config import Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import Labelled, MethodBase, MethodContext, Objectives, StepReport
from ipgl.models import Classifier


class ErmSettings(Settings):
    """ERM has no settings of its own."""


class Erm(MethodBase):
    """Minimise the mean cross-entropy."""

    pack_kind = "erm"

    def __init__(self, settings: ErmSettings, context: MethodContext) -> None:
        self._optimiser = context.optimiser

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on the batch's mean cross-entropy."""
        (loss,), seen, _ = self.objectives(model, batch)
        self._optimiser.minimise(loss)
        return StepReport(seen)

    def objectives(self, model: Classifier, batch: Labelled, *_: object) -> Objectives:
        """The batch's mean cross-entropy."""
        loss = cross_entropy(model(batch.x), batch.y)
        return Objectives((loss,), {"loss": loss.detach()}, {})
