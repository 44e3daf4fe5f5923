"""Empirical risk minimisation (Vapnik 1998): the mean cross-entropy and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ipgl.config import Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import (
    Labelled,
    MethodBase,
    MethodContext,
    MethodOptimiser,
    Optimisers,
    StackedMethod,
    StepReport,
    cross_entropy,
)
from ipgl.models import Classifier, StackedClassifier


class ErmSettings(Settings):
    """ERM has no settings of its own."""


class Erm(MethodBase):
    """Minimise the mean cross-entropy."""

    stack_kind = "erm"

    def __init__(self, settings: ErmSettings, context: MethodContext) -> None:
        self._optimiser = context.optimiser

    @classmethod
    def stacked(cls, members: Sequence[Erm], optimisers: Optimisers) -> StackedMethod:
        """ERM of several models."""
        return _StackedErm(optimisers)

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on the batch's mean cross-entropy."""
        return _step(self._optimiser, model, batch)


class _StackedErm:
    draws = False

    def __init__(self, optimisers: Optimisers) -> None:
        self._optimisers = optimisers

    def draw(self, pairs: PairBatch) -> None:
        return None

    def changed(self, pairs: PairBatch, drawn: Tensor | None) -> PairBatch:
        return pairs

    def step(self, model: StackedClassifier, batch: Labelled, pairs: PairBatch | None) -> StepReport:
        return _step(self._optimisers.optimiser, model, batch)

    def unstack(self, steps: int) -> None:
        pass


def _step(optimiser: MethodOptimiser, model: Classifier | StackedClassifier, batch: Labelled) -> StepReport:
    loss = cross_entropy(model(batch.x), batch.y)
    optimiser.minimise(loss)
    return StepReport({"loss": loss.detach()})
