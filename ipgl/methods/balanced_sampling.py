"""Balanced sampling: every class, or every group, is drawn equally often (Idrissi et al. 2022)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import Settings
from ipgl.data import Batch, PairBatch, group_index
from ipgl.methods.base import MethodBase, MethodContext, Needs, StepReport
from ipgl.models import Classifier


class BalancedSettings(Settings):
    """Balanced sampling has no settings of its own."""


class ClassBalanced(MethodBase):
    """ERM on batches in which every class is equally likely."""

    def __init__(self, settings: BalancedSettings, context: MethodContext) -> None:
        self._optimiser = context.optimiser
        self.sampling_weights = inverse_frequency(self._stratum(context))

    def _stratum(self, context: MethodContext) -> Tensor:
        return context.dataset.train.y

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on the mean cross-entropy of a balanced batch."""
        loss = cross_entropy(model(batch.x), batch.y)
        self._optimiser.minimise(loss)
        return StepReport({"loss": loss.detach()})


class GroupBalanced(ClassBalanced):
    """ERM on batches in which every (label, attribute) group is equally likely."""

    needs = Needs(groups=True)

    def _stratum(self, context: MethodContext) -> Tensor:
        train = context.dataset.train
        return group_index(train.y, train.attribute, context.dataset.num_attributes)


def inverse_frequency(stratum: Tensor) -> Tensor:
    """One over the size of each example's stratum, float64 `[N]`, from stratum numbers, int64 `[N]`."""
    return 1.0 / stratum.bincount().double()[stratum]
