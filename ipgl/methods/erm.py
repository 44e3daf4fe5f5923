"""Empirical risk minimisation (Vapnik 1998): the mean cross-entropy and nothing else."""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from ipgl.config import Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, StepReport, Toolbox
from ipgl.models import Classifier


class ErmSettings(Settings):
    """ERM has no settings of its own."""


class Erm(MethodBase):
    """Minimise the mean cross-entropy."""

    def __init__(self, settings: ErmSettings, toolbox: Toolbox) -> None:
        self._descend = toolbox.descend

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One descent on the batch's mean cross-entropy."""
        loss = cross_entropy(model(batch.x), batch.y)
        self._descend(loss)
        return StepReport({"loss": loss.detach()})
