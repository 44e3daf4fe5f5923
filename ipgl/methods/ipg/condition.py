"""The invariance condition `measure <= threshold`: what pairs measure, and how strongly a violation is corrected.

That the correction is adaptive and follows a predefined invariance condition is the paper's; the measure `rho`
and the three adaptivities are our reading. Everything stays a tensor: a decision in Python would make the
host wait for the device in every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ipgl.data import PairBatch
from ipgl.evaluation.invariance import centred, invariance_ratio, joint_moments, joint_ratio
from ipgl.methods.base import Number
from ipgl.methods.ipg.discrepancy import DISCREPANCIES, ConstantHead, hidden_difference, mean_distance
from ipgl.methods.ipg.settings import IpgSettings, Numbers
from ipgl.models import Classifier, Head

Adaptivity: TypeAlias = Callable[[Tensor, Number], Tensor]


def off(measure: Tensor, threshold: Number) -> Tensor:
    """Always correct at full strength."""
    return torch.ones_like(measure)


def gate(measure: Tensor, threshold: Number) -> Tensor:
    """Full strength while the condition is violated, nothing while it holds."""
    return (measure > threshold).to(measure.dtype)


def proportional(measure: Tensor, threshold: Number) -> Tensor:
    """`(measure - threshold) / measure` while the condition is violated, nothing while it holds."""
    return ((measure - threshold) / measure.clamp_min(torch.finfo(measure.dtype).tiny)).clamp_min(0.0)


ADAPTIVITIES: dict[str, Adaptivity] = {"off": off, "gate": gate, "proportional": proportional}


def collapsed(logits: Tensor) -> Tensor:
    """1.0 if a batch's logits `[B, K]` choose one class for every example, or hardly vary; else 0.0.

    A constant predictor satisfies every absolute discrepancy perfectly; only this tells it from an invariant one.
    """
    logits = logits.detach()
    choice = logits.argmax(dim=1)
    one_class = (choice == choice[0]).all()
    still = centred(logits).var(dim=0, correction=0).sum() < 1e-8
    return (one_class | still).float()


def overshot(logits: Tensor, y: Tensor) -> Tensor:
    """1.0 if logits `[B, K]` are right three standard errors less often than guessing would be; else 0.0.

    A correction that jumps past invariance makes the model follow the attribute in the opposite direction.
    """
    chance = 1 / logits.shape[1]
    limit = chance - 3 * math.sqrt(chance * (1 - chance) / len(y))
    return ((logits.detach().argmax(dim=1) == y).float().mean() < limit).float()


@dataclass(frozen=True)
class Activations:
    """What a model makes of pair members.

    Attributes:
        a: Features of first members, `[P, d]`.
        b: Features of second members, `[P, d]`.
        members: Both, first members first, detached, `[2 P, d]`.
        hidden: Of each recorded layer, its outputs for first and for second members, `[P, ...]` each.
    """

    a: Tensor
    b: Tensor
    members: Tensor
    hidden: Sequence[Sequence[Tensor]]


@dataclass(frozen=True)
class Correction:
    """What the pairs ask for.

    Attributes:
        discrepancy: `D` on this worker's pairs, 0-dim, with gradients.
        weight: The adaptivity `a`, the same on every worker, 0-dim, detached.
        measure: What the invariance condition judges, over all workers' pairs, 0-dim, detached.
    """

    discrepancy: Tensor
    weight: Tensor
    measure: Tensor


class Corrector:
    """Judges pairs by their activations.

    Args:
        settings: Which discrepancy, adaptivity and measure.
        sum_over_workers: Adds a small tensor up over all workers; None where there is one.
    """

    def __init__(
        self, settings: IpgSettings, sum_over_workers: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._settings, self._sum_over_workers = settings, sum_over_workers
        self._discrepancy = DISCREPANCIES[settings.discrepancy]
        self._adaptivity = ADAPTIVITIES[settings.adaptivity]

    def activations(self, model: Classifier, pairs: PairBatch) -> Activations:
        """Those of pair members, first members before second ones, in one forward pass."""
        return self._forward(model, [pairs.a, pairs.b])[1]

    def joint_activations(self, model: Classifier, x: Tensor, pairs: PairBatch) -> tuple[Tensor, Activations]:
        """Features of a batch, and the activations of pair members, in one forward pass."""
        return self._forward(model, [x, pairs.a, pairs.b])

    def _forward(self, model: Classifier, parts: Sequence[Tensor]) -> tuple[Tensor, Activations]:
        sizes = [len(part) for part in parts]
        x = torch.cat(list(parts))
        if not self._settings.hidden_weight:
            z, layers = model.features(x), []
        else:
            with model.recording_hidden() as layers:
                z = model.features(x)
        # One split each: its backward pass is one copy, where that of every slice would fill a gradient of its own.
        *task, a, b = torch.split(z, sizes)
        hidden = [torch.split(layer, sizes)[-2:] for layer in layers]
        members = z.detach().narrow(0, sum(sizes[:-2]), sum(sizes[-2:]))
        return task[0] if task else a, Activations(a, b, members, hidden)

    def discrepancy(self, model: Classifier, pairs: Activations, hidden_weight: Number) -> Tensor:
        """D of pair members, 0-dim."""
        through = self._settings.through
        head: Head = ConstantHead(model.head) if through == "representation" else model.head
        a, b = (pairs.a.detach(), pairs.b.detach()) if through == "head" else (pairs.a, pairs.b)
        value = mean_distance(self._discrepancy(a, b, head), self._settings.norm)
        if self._settings.hidden_weight:
            value = value + hidden_weight * hidden_difference(pairs.hidden)
        return value

    def __call__(self, model: Classifier, pairs: Activations, numbers: Numbers) -> Correction:
        """The correction that pair members ask for."""
        discrepancy = self.discrepancy(model, pairs, numbers.hidden_weight)
        measure = self._measure(model, pairs, discrepancy.detach())
        return Correction(discrepancy, self._adaptivity(measure, numbers.invariance_threshold), measure)

    def _measure(self, model: Classifier, pairs: Activations, discrepancy: Tensor) -> Tensor:
        """What the condition judges, over all workers' pairs."""
        if self._settings.measure == "rho":
            logits = model.head(pairs.members)
            least = self._settings.least_spread
            if self._sum_over_workers is None:
                return joint_ratio(logits, least)
            moments = self._sum_over_workers(joint_moments(logits))
            return invariance_ratio(moments, least).to(discrepancy.dtype)
        if self._sum_over_workers is None:
            return discrepancy
        sums = self._sum_over_workers(torch.stack([discrepancy, torch.ones_like(discrepancy)]))
        return sums[0] / sums[1]
