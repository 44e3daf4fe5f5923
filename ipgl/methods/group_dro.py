"""GroupDRO (Sagawa et al. 2020): descend on the groups' losses, weighted towards the worst, with adjustments."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings, Uniform
from ipgl.data import Batch, PairBatch, group_counts, group_index
from ipgl.methods.balanced_sampling import inverse_frequency
from ipgl.methods.base import MethodBase, MethodContext, Needs, StepReport
from ipgl.models import Classifier, StateDict


class GroupDroSettings(Settings):
    """Settings of `group_dro`."""

    step_size: float = Field(0.01, gt=0, description="How fast weights move towards the worst group.")
    adjustment: float = Field(
        0.0, ge=0, description="C of the generalisation adjustment C / sqrt(n_g); 0 is off."
    )
    balanced: bool = Field(True, description="Draw every group equally often, as the paper does.")


class GroupDro(MethodBase):
    """Exponentiated ascent on group weights `q`, descent on `sum_g q_g (loss_g + C / sqrt(n_g))`.

    As in the paper's code, a group that a batch lacks has loss 0 there and keeps its adjustment, which is a constant
    of the group: otherwise rare groups, whose adjustments are the largest, would have them least often. (Algorithm 1
    of the paper draws one group a step and raises the weight of that one alone.)

    The weights sum to 1, so the loss is on ERM's scale whatever the settings.
    """

    needs = Needs(groups=True)
    # DomainBed and SubpopBench: 10^U(-3, -1); Sagawa et al.: C in 0, 1, ..., 5.
    search_space = {"step_size": LogUniform(1e-3, 1e-1), "adjustment": Uniform(0, 5)}

    def __init__(self, settings: GroupDroSettings, context: MethodContext) -> None:
        self._settings, self._context = settings, context
        data = context.dataset
        self._attributes = data.num_attributes
        sizes = group_counts(
            data.train.y, data.train.attribute, data.num_classes, data.num_attributes
        ).flatten()
        head = context.model.head.weight
        self._adjustment = (settings.adjustment / sizes.clamp_min(1).sqrt()).to(head)
        # A group without training examples has no loss to weigh.
        self._weights = (sizes > 0).to(head) / (sizes > 0).sum().to(head)
        if settings.balanced:
            self.sampling_weights = inverse_frequency(
                group_index(data.train.y, data.train.attribute, data.num_attributes)
            )

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """Move the weights by this batch's losses over all workers, then descend."""
        losses = cross_entropy(model(batch.x), batch.y, reduction="none")
        group = group_index(batch.y, batch.attribute, self._attributes)
        zeros = torch.zeros_like(self._weights)
        count = zeros.index_add(0, group, torch.ones_like(losses))
        total = zeros.index_add(0, group, losses)
        # The third row counts the workers.
        everywhere = self._context.sum_over_workers(
            torch.stack([total.detach(), count, torch.ones_like(count)])
        )
        loss_of_group = everywhere[0] / everywhere[1].clamp_min(1)
        weights = self._weights * (self._settings.step_size * (loss_of_group + self._adjustment)).exp()
        self._weights = weights / weights.sum()
        # Averaged over workers this is the groups' loss, though a worker's share may lack a group.
        own = total * everywhere[2] / everywhere[1].clamp_min(1)
        self._context.optimiser.minimise((self._weights * own).sum())
        return StepReport({"loss": losses.detach().mean(), "worst_group_loss": loss_of_group.max()})

    def state_dict(self) -> StateDict:
        """The group weights."""
        return {"weights": self._weights}

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""
        self._weights = state["weights"].to(self._weights.device)
