"""Training on mixtures of examples: mixup, and LISA, which chooses what to mix so as to cancel the attribute."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings, Uniform
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, Needs, StepReport, Toolbox
from ipgl.models import Classifier


class MixupSettings(Settings):
    """Settings of `mixup`."""

    alpha: float = Field(
        0.2, gt=0, description="Both parameters of the Beta distribution of the mixing share."
    )


class Mixup(MethodBase):
    """mixup (Zhang et al. 2018): inputs and losses of random partners, mixed in the same share."""

    # DomainBed and SubpopBench: 10^U(-1, 1).
    search_space = {"alpha": LogUniform(0.1, 10)}

    def __init__(self, settings: MixupSettings, toolbox: Toolbox) -> None:
        self._descend, self._alpha = toolbox.descend, settings.alpha

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One descent on the mixed batch."""
        loss = mixed_loss(model, batch, self._partner(batch), self._alpha)
        self._descend(loss)
        return StepReport({"loss": loss.detach()})

    def _partner(self, batch: Batch) -> Tensor:
        return torch.randperm(len(batch.y), device=batch.y.device)


class LisaSettings(MixupSettings):
    """Settings of `lisa`."""

    alpha: float = Field(
        2.0, gt=0, description="Both parameters of the Beta distribution of the mixing share."
    )
    same_label: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How often a batch mixes one label's attributes; else one attribute's labels.",
    )


class Lisa(Mixup):
    """LISA (Yao et al. 2022): mix across attributes within one label, or across labels within one attribute."""

    needs = Needs(groups=True)
    # SubpopBench: 10^U(-1, 1) and U(0, 1).
    search_space = {"alpha": LogUniform(0.1, 10), "same_label": Uniform(0, 1)}

    def __init__(self, settings: LisaSettings, toolbox: Toolbox) -> None:
        super().__init__(settings, toolbox)
        self._same_label = settings.same_label

    def _partner(self, batch: Batch) -> Tensor:
        label = batch.y.unsqueeze(0) == batch.y.unsqueeze(1)
        attribute = batch.attribute.unsqueeze(0) == batch.attribute.unsqueeze(1)
        within_label = torch.rand((), device=batch.y.device) < self._same_label
        allowed = torch.where(within_label, label & ~attribute, attribute & ~label).float()
        # An example without a partner in its batch is mixed with itself, which leaves it as it is.
        alone = allowed.sum(dim=1) == 0
        allowed[alone, alone.nonzero().squeeze(1)] = 1.0
        return torch.multinomial(allowed, 1).squeeze(1)


def mixed_loss(model: Classifier, batch: Batch, partner: Tensor, alpha: float) -> Tensor:
    """Mean of `s CE(y) + (1 - s) CE(y_partner)` on `s x + (1 - s) x_partner`, one share `s ~ Beta(alpha, alpha)`."""
    share = torch.distributions.Beta(alpha, alpha).sample().to(batch.x.device)
    logits = model(share * batch.x + (1 - share) * batch.x[partner])
    return share * cross_entropy(logits, batch.y) + (1 - share) * cross_entropy(logits, batch.y[partner])
