"""Empirical risk minimisation (Vapnik 1998): the mean cross-entropy and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ipgl.config import Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import (
    Descent,
    Descents,
    Labelled,
    MethodBase,
    StackedMethod,
    StepReport,
    Toolbox,
    cross_entropy,
)
from ipgl.models import Classifier, StackedClassifier


class ErmSettings(Settings):
    """ERM has no settings of its own."""


class Erm(MethodBase):
    """Minimise the mean cross-entropy."""

    stack_kind = "erm"

    def __init__(self, settings: ErmSettings, toolbox: Toolbox) -> None:
        self._descend = toolbox.descend

    @classmethod
    def stacked(cls, members: Sequence[Erm], descents: Descents) -> StackedMethod:
        """ERM of several models."""
        return _StackedErm(descents)

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One descent on the batch's mean cross-entropy."""
        return _descend(self._descend, model, batch)


class _StackedErm:
    draws = False

    def __init__(self, descents: Descents) -> None:
        self._descents = descents

    def draw(self, pairs: PairBatch) -> None:
        return None

    def changed(self, pairs: PairBatch, drawn: Tensor | None) -> PairBatch:
        return pairs

    def step(self, model: StackedClassifier, batch: Labelled, pairs: PairBatch | None) -> StepReport:
        return _descend(self._descents.descend, model, batch)

    def unstack(self, steps: int) -> None:
        pass


def _descend(descend: Descent, model: Classifier | StackedClassifier, batch: Labelled) -> StepReport:
    loss = cross_entropy(model(batch.x), batch.y)
    descend(loss)
    return StepReport({"loss": loss.detach()})
