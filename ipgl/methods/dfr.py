"""Deep feature reweighting (Kirichenko et al. 2023): ERM features, then a last layer from balanced held-out data."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings
from ipgl.core.errors import DataError
from ipgl.data import Batch, PairBatch, derive_seed, group_index, parts
from ipgl.methods.base import MethodBase, MethodContext, Needs, StepReport
from ipgl.models import Classifier, StateDict


class DfrSettings(Settings):
    """Settings of `dfr`."""

    held_out_share: float = Field(
        0.2, gt=0, lt=1, description="Share of the training split kept for the last layer."
    )
    penalty: Literal["l1", "l2"] = Field(
        "l1", description="Norm of the last layer that is penalised; l1 leaves few features."
    )
    inverse_regularisation: float = Field(
        1.0,
        gt=0,
        description="C of the logistic regression: weight of the summed loss beside the penalty; smaller is stronger.",
    )
    subsets: int = Field(10, ge=1, description="Balanced subsets whose last layers are averaged.")


class Dfr(MethodBase):
    """Train on part of the training split by ERM; after the last step fit the head on the balanced rest.

    As in the paper's code, the last layer is a logistic regression on standardised features with an L1 penalty, fitted
    by liblinear, and the mean over balanced subsets. Of more than two classes, which liblinear does not fit together,
    it is multinomial and fitted by SAGA. What differs: the paper holds out half of the validation split and tunes C on
    the other half by worst-group accuracy; here validation stays untouched, because all methods of a study are
    selected on it, and C is a setting that a study searches. The paper standardises by the training split's features,
    here by the held-out ones.

    Neither weight decay nor clipping nor the schedule touch the last layer. C weighs a sum over examples, so that with
    more held-out examples the same C penalises less.
    """

    needs = Needs(groups=True)
    # Both of the paper's grids: 0.01 to 1 for Waterbirds, 0.003 to 3 for CelebA.
    search_space = {"inverse_regularisation": LogUniform(3e-3, 3)}

    def __init__(self, settings: DfrSettings, context: MethodContext) -> None:
        self._settings, self._context = settings, context
        train = context.dataset.train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(derive_seed(0, "dfr")))
        kept = round(settings.held_out_share * len(train))
        self._held_out = order[:kept].to(train.y.device)
        self.train_index = order[kept:].to(train.y.device)
        group = group_index(train.y, train.attribute, context.dataset.num_attributes)[self._held_out]
        if (
            kept == 0
            or group.bincount(minlength=context.dataset.num_classes * context.dataset.num_attributes).min()
            < 2
        ):
            raise DataError(
                "dfr needs at least 2 held-out training examples of every group, but one group has fewer; "
                "raise held_out_share, or leave dfr out of a study whose training data lacks a group"
            )
        self._group = group
        self._done = 0

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on the mean cross-entropy; the last step is followed by the new head."""
        loss = cross_entropy(model(batch.x), batch.y)
        self._context.optimiser.minimise(loss)
        self._done += 1
        if self._done == self._context.total_steps:
            self._refit(model)
        return StepReport({"loss": loss.detach()})

    @torch.no_grad()
    def _refit(self, model: Classifier) -> None:
        train = self._context.dataset.train
        device = model.head.weight.device
        model.eval()
        held_out = train.x[self._held_out] if isinstance(train.x, Tensor) else train.x.take(self._held_out)
        z = torch.cat(
            [model.features(x.to(device)).float().cpu() for x in parts(held_out, 2048, device)]
        ).double()
        model.train()
        mean, scale = z.mean(dim=0), z.std(dim=0).clamp_min(1e-8)
        scaled, y = ((z - mean) / scale).numpy(), train.y[self._held_out].cpu().numpy()
        weights, biases = [], []
        for number in range(self._settings.subsets):
            chosen = balanced_subset(self._group.cpu(), derive_seed(number, "dfr subset")).numpy()
            fitted = logistic_regression(self._settings, self._context.dataset.num_classes)
            fitted.fit(scaled[chosen], y[chosen])
            weights.append(fitted.coef_)
            biases.append(fitted.intercept_)
        weight = torch.from_numpy(np.mean(weights, axis=0)) / scale
        bias = torch.from_numpy(np.mean(biases, axis=0)) - weight @ mean
        if len(weight) == 1:  # two classes: one row of differences
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        model.head.weight.copy_(weight)
        model.head.bias.copy_(bias)

    def state_dict(self) -> StateDict:
        """How many steps are done."""
        return {"done": self._done}

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""
        self._done = int(state["done"])


def logistic_regression(settings: DfrSettings, classes: int) -> Any:
    """scikit-learn's, not yet fitted, with the penalty that the settings name."""
    from sklearn.linear_model import LogisticRegression

    l1 = settings.penalty == "l1"
    return LogisticRegression(
        C=settings.inverse_regularisation,
        l1_ratio=1.0 if l1 else 0.0,
        solver=("liblinear" if classes == 2 else "saga") if l1 else "lbfgs",
        max_iter=1000,
        random_state=0,  # the order in which liblinear and SAGA go through coordinates or examples
    )


def balanced_subset(group: Tensor, seed: int) -> Tensor:
    """Positions of a random subset with as many examples of each group as the smallest one has, int64."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(group), generator=generator)
    sizes = group.bincount()
    smallest = int(sizes[sizes > 0].min())
    return torch.cat([order[group[order] == number][:smallest] for number in torch.unique(group)])
