"""Methods that compare risks between training environments: IRM (v1) and V-REx."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings, Uniform
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
    """`mean_e R_e + weight * penalty(R)`, scaled down by the weight once it is above 1, as both papers' code does."""

    needs = Needs(environments=True)
    search_space = {"strength": LogUniform(1, 1e5), "anneal_share": Uniform(0.05, 0.6)}

    def __init__(self, settings: EnvironmentPenaltySettings, toolbox: Toolbox) -> None:
        self._settings, self._descend = settings, toolbox.descend
        self._anneal_steps = settings.anneal_share * toolbox.total_steps
        self._done = 0

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One descent on mean risk and penalty."""
        logits = model(batch.x)
        present = torch.unique(batch.environment)
        risks, penalty = self.risks(logits, batch.y, [batch.environment == number for number in present])
        weight = self._settings.strength if self._done >= self._anneal_steps else 1.0
        self._descend((risks.mean() + weight * penalty) / max(1.0, weight))
        self._done += 1
        return StepReport({"loss": risks.mean().detach(), "penalty": penalty.detach()})

    def risks(self, logits: Tensor, y: Tensor, members: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of each environment, `[E]`, and the penalty, 0-dim."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """How far annealing is."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._done = int(state["done"])


class Irm(EnvironmentPenalty):
    """IRMv1 (Arjovsky et al. 2019): the penalty is `mean_e ||d R_e(w * f) / d w at w = 1||^2`."""

    def risks(self, logits: Tensor, y: Tensor, members: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Risks per environment, and the squared gradient of each in a scale of the logits."""
        scale = torch.ones((), device=logits.device, dtype=logits.dtype, requires_grad=True)
        risks = torch.stack([cross_entropy(logits[of] * scale, y[of]) for of in members])
        gradients = [torch.autograd.grad(risk, scale, create_graph=True)[0] for risk in risks]
        return risks, torch.stack(gradients).square().mean()


class Vrex(EnvironmentPenalty):
    """V-REx (Krueger et al. 2021): the penalty is the variance of the risks over environments."""

    def risks(self, logits: Tensor, y: Tensor, members: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Risks per environment, and their variance."""
        risks = torch.stack([cross_entropy(logits[of], y[of]) for of in members])
        return risks, risks.var(correction=0)
