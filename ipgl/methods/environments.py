"""Methods that compare risks between training environments: IRM (v1) and V-REx."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, Needs, StepReport, Toolbox
from ipgl.models import Classifier


class EnvironmentPenaltySettings(Settings):
    """Settings of `irm` and `vrex`."""

    strength: float = Field(1000.0, ge=0, description="Weight of the penalty once it is on.")
    anneal_share: float = Field(
        0.3, ge=0, lt=1, description="Share of all steps at weight 1, before the penalty is on."
    )


class EnvironmentPenalty(MethodBase):
    """`mean_e R_e + weight * penalty(R)`, scaled down by the weight once it is above 1, as both papers' code does.

    Risks and penalty are those of the batch over all workers. A penalty is not linear in them, so the mean of the
    workers' own penalties would be another objective; what is: each is a function of sums over examples. The sums
    are added up, and every worker descends on its own ones, weighed by the derivatives at the totals.
    """

    needs = Needs(environments=True)
    # DomainBed: 10^U(-1, 5), and 10^U(0, 4) steps of 5,000 (a share of 1 or more would never turn the penalty on).
    search_space = {"strength": LogUniform(0.1, 1e5), "anneal_share": LogUniform(2e-4, 0.99)}

    def __init__(self, settings: EnvironmentPenaltySettings, toolbox: Toolbox) -> None:
        self._settings, self._toolbox = settings, toolbox
        self._anneal_steps = settings.anneal_share * toolbox.total_steps
        # Not those of a batch: the workers' sums must have the same shape.
        self._environments = torch.unique(toolbox.dataset.train.environment)
        self._done = 0

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One descent on mean risk and penalty."""
        logits = model(batch.x)
        member = batch.environment == self._environments.to(logits.device)[:, None]
        own = self.sums(logits, batch.y, member)
        count = member.sum(dim=1).to(own.dtype)
        # The last row counts the workers.
        everywhere = self._toolbox.sum_over_workers(
            torch.cat([own.detach(), count[None], torch.ones_like(count)[None]])
        )
        count, workers = everywhere[-2], everywhere[-1, 0]
        total = everywhere[:-2].clone().requires_grad_()
        means = total[:, count > 0] / count[count > 0]
        risk, penalty = means[0].mean(), self.penalty(means)
        weight = self._settings.strength if self._done >= self._anneal_steps else 1.0
        (slopes,) = torch.autograd.grad((risk + weight * penalty) / max(1.0, weight), total)
        # Gradients are averaged over workers, but sums add up.
        self._toolbox.descend(workers * (slopes * own).sum())
        self._done += 1
        return StepReport({"loss": risk.detach(), "penalty": penalty.detach()})

    def sums(self, logits: Tensor, y: Tensor, member: Tensor) -> Tensor:
        """Sums over each environment's examples, `[S, E]`, of which the first row is that of cross-entropy.

        Args:
            logits: `[N, K]`.
            y: Labels, `[N]`.
            member: Whether an example belongs to an environment, bool `[E, N]`.
        """
        raise NotImplementedError

    def penalty(self, means: Tensor) -> Tensor:
        """The penalty, 0-dim, from the means over examples that belong to `sums`, `[S, E]`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """How far annealing is."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._done = int(state["done"])


class Irm(EnvironmentPenalty):
    """IRMv1 (Arjovsky et al. 2019): the penalty is `mean_e ||d R_e(w * f) / d w at w = 1||^2`."""

    def sums(self, logits: Tensor, y: Tensor, member: Tensor) -> Tensor:
        """Cross-entropy, and its derivative in a scale of the logits."""
        scale = torch.ones(
            (len(logits), 1),
            device=logits.device,
            dtype=torch.promote_types(logits.dtype, torch.float32),
            requires_grad=True,
        )
        losses = cross_entropy(logits * scale, y, reduction="none")
        (slopes,) = torch.autograd.grad(losses.sum(), scale, create_graph=True)
        return torch.stack([_sums_over(member, losses), _sums_over(member, slopes.squeeze(1))])

    def penalty(self, means: Tensor) -> Tensor:
        """Mean square of the risks' derivatives."""
        return means[1].square().mean()


class Vrex(EnvironmentPenalty):
    """V-REx (Krueger et al. 2021): the penalty is the variance of the risks over environments."""

    def sums(self, logits: Tensor, y: Tensor, member: Tensor) -> Tensor:
        """Cross-entropy."""
        return _sums_over(member, cross_entropy(logits, y, reduction="none"))[None]

    def penalty(self, means: Tensor) -> Tensor:
        """Variance of the risks."""
        return means[0].var(correction=0)


def _sums_over(member: Tensor, values: Tensor) -> Tensor:
    # Not a matrix product, which autocast would compute in low precision.
    return torch.where(member, values, values.new_zeros(())).sum(dim=1)
