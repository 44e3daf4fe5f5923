"""How the corrective gradient joins the task's gradient in one training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.data import Batch, PairBatch
from ipgl.methods.base import StepReport, Toolbox
from ipgl.methods.ipg.condition import collapsed
from ipgl.models import Classifier


@dataclass(frozen=True)
class Correction:
    """What the pairs ask for.

    Attributes:
        loss: `strength * a * D`, through which the corrective gradient flows, 0-dim.
        weight: The adaptivity `a`, the same on every worker, 0-dim, detached.
        discrepancy: `D` on this worker's pairs, 0-dim, detached.
        measure: What the invariance condition judges, over all workers' pairs, 0-dim, detached.
    """

    loss: Tensor
    weight: Tensor
    discrepancy: Tensor
    measure: Tensor

    @property
    def known_to_be_zero(self) -> bool:
        """True if the correction is nothing and finding that out is free (on a GPU it would be a wait)."""
        return self.weight.device.type == "cpu" and not self.weight.item()


CorrectionFunction: TypeAlias = Callable[[Classifier, Tensor, Tensor], Correction]


class Update(Protocol):
    """One training step from a batch and pairs."""

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch) -> StepReport:
        """Update the parameters."""


class SequentialUpdate:
    """The paper's two steps: `theta' = theta - optimiser(grad L)`, then from `theta'` down `strength * a * grad D`.

    The condition is judged at `theta'`. The second step is plain gradient descent: an adaptive optimiser would
    normalise the gradient's size away and jump past invariance into the opposite correlation.
    """

    def __init__(self, correction: CorrectionFunction, toolbox: Toolbox) -> None:
        self._correction, self._toolbox = correction, toolbox

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch) -> StepReport:
        """Task step, then corrective step."""
        logits = model(batch.x)
        loss = cross_entropy(logits, batch.y)
        self._toolbox.descend(loss)

        z_a, z_b = model.features(torch.cat([pairs.a, pairs.b])).chunk(2)
        correction = self._correction(model, z_a, z_b)
        if not correction.known_to_be_zero:
            self._toolbox.corrective_descend(correction.loss)
        return _report(loss, logits, correction)


class AdditiveUpdate:
    """One step down `L + strength * a * D` (our cheaper reading): one forward over batch and pairs together."""

    def __init__(self, correction: CorrectionFunction, toolbox: Toolbox) -> None:
        self._correction, self._toolbox = correction, toolbox

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch) -> StepReport:
        """One joint step."""
        sizes = [len(batch.y), len(pairs.y), len(pairs.y)]
        z, z_a, z_b = model.features(torch.cat([batch.x, pairs.a, pairs.b])).split(sizes)
        logits = model.head(z)
        loss = cross_entropy(logits, batch.y)
        correction = self._correction(model, z_a, z_b)
        self._toolbox.descend(loss + correction.loss)
        return _report(loss, logits, correction)


UPDATES: dict[str, Callable[[CorrectionFunction, Toolbox], Update]] = {
    "sequential": SequentialUpdate,
    "additive": AdditiveUpdate,
}


def _report(loss: Tensor, logits: Tensor, correction: Correction) -> StepReport:
    return StepReport(
        {
            "loss": loss.detach(),
            "discrepancy": correction.discrepancy,
            "rho": correction.measure,
            "adaptivity": correction.weight,
            "corrected": (correction.weight > 0).float(),
            "collapsed": collapsed(logits),
        }
    )
