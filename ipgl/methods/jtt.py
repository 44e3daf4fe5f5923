"""Just Train Twice (Liu et al. 2021): train, note which training examples are wrong, start again, weigh those more."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings, Uniform
from ipgl.data import Batch, PairBatch, parts
from ipgl.methods.base import MethodBase, MethodContext, StepReport
from ipgl.models import Classifier, StateDict


class JttSettings(Settings):
    """Settings of `jtt`."""

    first_share: float = Field(
        0.2, gt=0, lt=1, description="Share of all steps that the first training takes."
    )
    upweight: float = Field(10.0, ge=1, description="Weight of the first training's errors in the second.")


class Jtt(MethodBase):
    """Two trainings in one run; the second starts from the initial weights.

    The paper repeats each error `upweight` times in the second training set; weighting its loss has the same
    expectation.
    """

    restarts = True
    # SubpopBench: U(0.2, 0.8) and 10^U(0, 2.5); the paper gives a list of its own for each data set.
    search_space = {"first_share": Uniform(0.2, 0.8), "upweight": LogUniform(1, 316)}

    def __init__(self, settings: JttSettings, context: MethodContext) -> None:
        self._settings, self._context = settings, context
        self._first_steps = max(1, round(settings.first_share * context.total_steps))
        self._weights = torch.ones(len(context.dataset.train), device=context.dataset.train.y.device)
        self._done = 0

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on the weighted mean cross-entropy; between the trainings, find the errors."""
        if self._done == self._first_steps:
            self._weights = self._error_weights(model)
            self._context.restart()
        weights = self._weights[batch.index.to(self._weights.device)].to(batch.x.device)
        losses = cross_entropy(model(batch.x), batch.y, reduction="none")
        # The mean weight over the training set keeps the loss on ERM's scale, whatever the batch holds.
        self._context.optimiser.minimise((weights * losses).mean() / self._weights.mean().to(losses.device))
        self._done += 1
        return StepReport({"loss": losses.detach().mean()})

    @torch.no_grad()
    def _error_weights(self, model: Classifier) -> torch.Tensor:
        train = self._context.dataset.train
        device = next(model.parameters()).device
        model.eval()
        predicted = [
            model(x.to(device)).argmax(dim=1).to(train.y.device) for x in parts(train.x, 2048, device)
        ]
        model.train()
        return 1.0 + (self._settings.upweight - 1.0) * (torch.cat(predicted) != train.y).float()

    def state_dict(self) -> StateDict:
        """Which training it is in, and the second one's weights."""
        return {"done": self._done, "weights": self._weights}

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""
        self._done = int(state["done"])
        self._weights = state["weights"].to(self._weights.device)
