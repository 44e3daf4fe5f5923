"""RIDG, domain generalisation via rationale invariance (Chen et al., ICCV 2023).

A sample's rationale matrix `R[j, k] = W[k, j] z[j]` is drawn towards its class's mean rationale, which follows the
batches by momentum: `L + strength / K * sum_k mean_{n: y_n = k} ||R_n - mean_k||_F^2` over the K classes.

That is the paper's code: every class in the batch counts alike. The paper's formula is a mean over the examples, by
which a frequent class counts more; where classes are equally frequent the two are the same.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, MethodContext, StepReport
from ipgl.models import Classifier, StateDict


class RidgSettings(Settings):
    """Settings of `ridg`."""

    strength: float = Field(0.01, ge=0, description="Weight of the rationale's spread.")
    momentum: float = Field(
        0.01, gt=0, le=1, description="Share of a batch in the mean rationale of its classes."
    )


class Ridg(MethodBase):
    """Keep each class's rationales together; needs labels alone."""

    # The authors' code: 10^U(-2, -1) and 10^U(-4, -1).
    search_space = {"strength": LogUniform(0.01, 0.1), "momentum": LogUniform(1e-4, 0.1)}

    def __init__(self, settings: RidgSettings, context: MethodContext) -> None:
        self._settings, self._context = settings, context
        head = context.model.head
        # Class, feature, logit; a class not met yet takes its first batch's mean as it is.
        shape = (context.dataset.num_classes, *head.weight.shape[::-1])
        self._mean = torch.zeros(shape, device=head.weight.device, dtype=head.weight.dtype)
        self._met = torch.zeros(shape[0], device=head.weight.device, dtype=torch.bool)

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on task loss and spread together."""
        z = model.features(batch.x)
        loss = cross_entropy(model.head(z), batch.y)
        count, mean = self._class_means(z.detach(), model.head.weight.detach(), batch.y)
        self._follow(mean, count > 0)
        rationale = z.unsqueeze(2) * model.head.weight.T
        distance = (rationale - self._mean[batch.y]).square().sum(dim=(1, 2))
        # Gradients are averaged over workers, but the parts of a class's mean add up.
        spread = self._context.workers * (distance / count[batch.y]).sum() / len(count)
        self._context.optimiser.minimise(loss + self._settings.strength * spread)
        return StepReport({"loss": loss.detach(), "penalty": spread.detach()})

    def _class_means(self, z: Tensor, weight: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """How many examples of each class all workers' batch holds, and their mean rationale."""
        z = z.to(weight.dtype)  # in mixed precision a sum of ones would stop at 256
        count = torch.zeros(len(self._met), device=z.device, dtype=z.dtype).index_add_(
            0, y, torch.ones_like(z[:, 0])
        )
        total = torch.zeros(len(self._met), z.shape[1], device=z.device, dtype=z.dtype).index_add_(0, y, z)
        sums = self._context.sum_over_workers(torch.cat([count.unsqueeze(1), total], dim=1))
        count, total = sums[:, 0], sums[:, 1:]
        mean_z = total / count.clamp_min(1).unsqueeze(1)
        return count, mean_z.unsqueeze(2) * weight.T

    def _follow(self, mean: Tensor, present: Tensor) -> None:
        momentum = self._settings.momentum
        followed = torch.where(self._met.view(-1, 1, 1), (1 - momentum) * self._mean + momentum * mean, mean)
        self._mean = torch.where(present.view(-1, 1, 1), followed, self._mean)
        self._met = self._met | present

    def state_dict(self) -> StateDict:
        """The mean rationales."""
        return {"mean": self._mean, "met": self._met}

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""
        self._mean = state["mean"].to(self._mean.device)
        self._met = state["met"].to(self._met.device)
