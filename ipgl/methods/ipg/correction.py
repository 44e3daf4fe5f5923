"""What the pairs ask for: discrepancy, condition and adaptivity brought together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipgl.methods.ipg.condition import ADAPTIVITIES, invariance_ratio, pair_moments
from ipgl.methods.ipg.discrepancy import DISCREPANCIES, hidden_difference
from ipgl.methods.ipg.settings import IpgSettings
from ipgl.models import Classifier


@dataclass(frozen=True)
class Activations:
    """Features `[N, d]` and recorded hidden layers `[N, ...]` of some inputs."""

    z: Tensor
    hidden: tuple[Tensor, ...] = ()


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

    @property
    def known_to_be_zero(self) -> bool:
        """True if the correction is nothing and finding that out is free (on a GPU it would be a wait)."""
        return self.weight.device.type == "cpu" and not self.weight.item()


class Corrector:
    """Judges pairs by their activations."""

    def __init__(self, settings: IpgSettings, sum_over_workers: Callable[[Tensor], Tensor]) -> None:
        self._settings, self._sum_over_workers = settings, sum_over_workers
        self._discrepancy = DISCREPANCIES[settings.discrepancy]
        self._adaptivity = ADAPTIVITIES[settings.adaptivity]

    def activations(self, model: Classifier, parts: Sequence[Tensor]) -> list[Activations]:
        """One forward pass over several input batches together."""
        sizes = [len(part) for part in parts]
        x = torch.cat(list(parts))
        if not self._settings.hidden_weight:
            return [Activations(z) for z in torch.split(model.features(x), sizes)]
        with model.recording_hidden() as hidden:
            z = torch.split(model.features(x), sizes)
        layers = [torch.split(layer, sizes) for layer in hidden]
        return [Activations(z[i], tuple(layer[i] for layer in layers)) for i in range(len(parts))]

    def discrepancy(self, model: Classifier, a: Activations, b: Activations) -> Tensor:
        """D of pair members, 0-dim."""
        value = self._discrepancy(a.z, b.z, model.head)
        if self._settings.hidden_weight:
            value = value + self._settings.hidden_weight * hidden_difference(a.hidden, b.hidden)
        return value

    def __call__(self, model: Classifier, a: Activations, b: Activations) -> Correction:
        """The correction that pair members ask for."""
        discrepancy = self.discrepancy(model, a, b)
        if self._settings.measure == "rho":
            moments = pair_moments(model.head(a.z.detach()), model.head(b.z.detach()))
            measure = invariance_ratio(self._sum_over_workers(moments)).to(discrepancy.dtype)
        else:
            ones = torch.ones_like(discrepancy)
            total, workers = self._sum_over_workers(torch.stack([discrepancy.detach(), ones]))
            measure = total / workers
        weight = self._adaptivity(measure, self._settings.invariance_threshold)
        return Correction(discrepancy, weight, measure)
