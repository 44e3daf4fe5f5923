"""Training on mixtures of examples: mixup, and LISA, which chooses what to mix so as to cancel the attribute."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings, Uniform
from ipgl.data import Batch, PairBatch, group_index
from ipgl.methods.balanced_sampling import inverse_frequency
from ipgl.methods.base import MethodBase, MethodContext, Needs, StepReport
from ipgl.models import Classifier


class MixupSettings(Settings):
    """Settings of `mixup`."""

    alpha: float = Field(
        0.2, gt=0, description="Both parameters of the Beta distribution of the mixing share."
    )


class Mixup(MethodBase):
    """mixup (Zhang et al. 2018): inputs and losses of random partners, mixed in the same share.

    One share for all examples of a batch, as in the paper's code.
    """

    # DomainBed and SubpopBench: 10^U(-1, 1).
    search_space = {"alpha": LogUniform(0.1, 10)}

    def __init__(self, settings: MixupSettings, context: MethodContext) -> None:
        self._optimiser, self._alpha = context.optimiser, settings.alpha

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on the mixed batch."""
        loss = mixed_loss(model, batch, self._partner(batch), self._shares(batch))
        self._optimiser.minimise(loss)
        return StepReport({"loss": loss.detach()})

    def _partner(self, batch: Batch) -> Tensor:
        return torch.randperm(len(batch.y), device=batch.y.device)

    def _shares(self, batch: Batch) -> Tensor:
        return beta_shares(self._alpha, 1).expand(len(batch.y)).to(batch.x)


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
    balanced: bool = Field(True, description="Draw every group equally often, as the paper's code does.")


class Lisa(Mixup):
    """LISA (Yao et al. 2022): mix across attributes within one label, or across labels within one attribute.

    As in the paper's code, every example has a mixing share of its own, one rule holds for a batch, and groups are
    drawn equally often. There, a batch holds the same number of each group and partners are matched one to one; here
    groups are equally likely, and a partner is any example of the batch that the rule allows.
    """

    needs = Needs(groups=True)
    # SubpopBench: 10^U(-1, 1) and U(0, 1).
    search_space = {"alpha": LogUniform(0.1, 10), "same_label": Uniform(0, 1)}

    def __init__(self, settings: LisaSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        self._same_label = settings.same_label
        if settings.balanced:
            data = context.dataset
            self.sampling_weights = inverse_frequency(
                group_index(data.train.y, data.train.attribute, data.num_attributes)
            )

    def _partner(self, batch: Batch) -> Tensor:
        label = batch.y.unsqueeze(0) == batch.y.unsqueeze(1)
        attribute = batch.attribute.unsqueeze(0) == batch.attribute.unsqueeze(1)
        within_label = torch.rand((), device=batch.y.device) < self._same_label
        allowed = torch.where(within_label, label & ~attribute, attribute & ~label).float()
        # An example without a partner in its batch is mixed with itself, which leaves it as it is.
        alone = allowed.sum(dim=1) == 0
        allowed[alone, alone.nonzero().squeeze(1)] = 1.0
        return torch.multinomial(allowed, 1).squeeze(1)

    def _shares(self, batch: Batch) -> Tensor:
        return beta_shares(self._alpha, len(batch.y)).to(batch.x)


def beta_shares(alpha: float, number: int) -> Tensor:
    """So many draws of `Beta(alpha, alpha)` on the CPU, `[number]`."""
    drawn: Tensor = torch.distributions.Beta(alpha, alpha).sample((number,))
    return drawn


def mixed_loss(model: Classifier, batch: Batch, partner: Tensor, share: Tensor) -> Tensor:
    """Mean over i of `s_i CE(y_i) + (1 - s_i) CE(y_j)` on `s_i x_i + (1 - s_i) x_j`, with j the partner of i.

    Args:
        model: The model.
        batch: B examples.
        partner: Positions in the batch, int64 `[B]`.
        share: `s`, `[B]`.
    """
    of_input = share.view(-1, *[1] * (batch.x.dim() - 1))
    logits = model(of_input * batch.x + (1 - of_input) * batch.x[partner])
    own, other = (cross_entropy(logits, y, reduction="none") for y in (batch.y, batch.y[partner]))
    return (share * own + (1 - share) * other).mean()
