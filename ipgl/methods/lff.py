"""Learning from Failure (Nam et al. 2020): a second network that is made to be biased says which examples are hard."""

from __future__ import annotations

import copy

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import Settings, Uniform
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, MethodContext, StepReport
from ipgl.models import Classifier, StateDict


class LffSettings(Settings):
    """Settings of `lff`."""

    amplification: float = Field(
        0.7, gt=0, le=1, description="q of the generalised cross-entropy; larger is more biased."
    )
    smoothing: float = Field(0.7, ge=0, lt=1, description="Momentum of each example's smoothed losses.")


class Lff(MethodBase):
    """Weigh each example by how much harder it is for the biased network: `l_b / (l_b + l_d)`.

    Losses are smoothed per example and divided by their class's largest, as in the paper's code.

    The biased network descends on the paper's generalised cross-entropy `(1 - p^q) / q`, whose gradient is that of
    cross-entropy times `p^q`. The paper's code multiplies by `q p^q`. That factor is left out here: it would make the
    searched q a factor of the biased network's learning rate too (`sgd`), or one by which its weight decay counts
    more (`1 / q`, `adam`). Without decay, Adam takes the same steps either way.
    """

    # SubpopBench: U(0.05, 0.95); no range is published for the smoothing (0.7 in the paper): a share, so 0.1 to 0.9.
    search_space = {"amplification": Uniform(0.05, 0.95), "smoothing": Uniform(0.1, 0.9)}

    def __init__(self, settings: LffSettings, context: MethodContext) -> None:
        self._settings, self._context = settings, context
        self._biased = copy.deepcopy(context.model)
        for module in self._biased.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
        self._biased_optimiser = context.new_optimiser("task", self._biased)
        train = context.dataset.train
        head = context.model.head.weight
        device = head.device
        self._labels = train.y.to(device)
        self._smoothed = torch.zeros(2, len(train), device=device, dtype=head.dtype)  # biased, debiased
        self._met = torch.zeros(len(train), dtype=torch.bool, device=device)

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step of each network."""
        biased, debiased = self._biased(batch.x), model(batch.x)
        losses = cross_entropy(debiased, batch.y, reduction="none")
        with torch.no_grad():
            both = torch.stack([cross_entropy(biased, batch.y, reduction="none"), losses])
            weight = self._relative_difficulty(both, batch)
        self._biased_optimiser.minimise(
            generalised_cross_entropy(biased, batch.y, self._settings.amplification).mean()
        )
        self._context.optimiser.minimise((weight * losses).mean())
        return StepReport({"loss": losses.detach().mean(), "difficulty": weight.mean()})

    def _relative_difficulty(self, losses: Tensor, batch: Batch) -> Tensor:
        index, momentum = batch.index, self._settings.smoothing
        own = torch.zeros(3, len(self._met), device=losses.device, dtype=losses.dtype)
        own[:2, index], own[2, index] = losses, 1.0
        everywhere = self._context.sum_over_workers(own)  # every worker follows all examples
        seen = everywhere[2] > 0
        followed = momentum * self._smoothed + (1 - momentum) * everywhere[:2]
        self._smoothed = torch.where(seen, torch.where(self._met, followed, everywhere[:2]), self._smoothed)
        self._met = self._met | seen
        largest = torch.stack(
            [
                self._smoothed[:, self._labels == label].amax(dim=1)
                for label in range(self._context.dataset.num_classes)
            ],
            dim=1,
        )
        biased, debiased = self._smoothed[:, index] / largest[:, batch.y].clamp_min(1e-8)
        share: Tensor = biased / (biased + debiased + 1e-8)
        return share

    def state_dict(self) -> StateDict:
        """The biased network and the smoothed losses; its optimiser is kept by the trainer."""
        return {"biased": self._biased.state_dict(), "smoothed": self._smoothed, "met": self._met}

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""
        self._biased.load_state_dict(state["biased"])
        self._smoothed = state["smoothed"].to(self._smoothed.device)
        self._met = state["met"].to(self._met.device)


def generalised_cross_entropy(logits: Tensor, y: Tensor, q: float) -> Tensor:
    """`(1 - p_y^q) / q` per example (Zhang and Sabuncu 2018), from logits `[B, K]` and labels `[B]`."""
    probability = logits.softmax(dim=1).gather(1, y.unsqueeze(1)).squeeze(1)
    result: Tensor = (1 - probability.clamp_min(1e-12) ** q) / q
    return result
