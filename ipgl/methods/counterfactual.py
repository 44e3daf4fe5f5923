"""Counterfactual augmentation and counterfactual logit pairing: pairs as training data, and as a penalty."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings, Uniform
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, MethodContext, Needs, StepReport
from ipgl.models import Classifier


class CounterfactualAugmentationSettings(Settings):
    """Settings of `counterfactual_augmentation`."""

    probability: float = Field(
        0.5, ge=0, le=1, description="How often an example that has a pair is its second member."
    )


class CounterfactualAugmentation(MethodBase):
    """Show either member of a pair in place of the training example from which it was made (Kaushik et al. 2020).

    Examples without a pair stay as they are, so that the pair budget bounds what this can do.
    """

    needs = Needs(pairs=True)
    # No range is published (Kaushik et al. use every counterfactual once): a share, so 0.1 to 0.9.
    search_space = {"probability": Uniform(0.1, 0.9)}

    def __init__(self, settings: CounterfactualAugmentationSettings, context: MethodContext) -> None:
        self._optimiser, self._probability = context.optimiser, settings.probability
        self._pairs = context.dataset.pairs
        source = self._pairs.source
        self._pair_of = torch.full((len(context.dataset.train),), -1, device=source.device)
        made_here = source >= 0
        self._pair_of[source[made_here]] = torch.arange(len(source), device=source.device)[made_here]

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on the mean cross-entropy of the augmented batch."""
        pair = self._pair_of[batch.index.to(self._pair_of.device)]
        paired = (pair >= 0).nonzero().squeeze(1)
        # Cut as the example was, so that nothing but the attribute tells the member from it.
        boxes = None if batch.boxes is None else batch.boxes[paired.cpu()]
        members = self._pairs.batch(pair[paired], boxes)
        second = torch.rand(len(paired), device=pair.device) < self._probability
        chosen = torch.where(second.view(-1, *[1] * (members.a.dim() - 1)), members.b, members.a)
        x = batch.x.index_copy(0, paired.to(batch.x.device), chosen.to(batch.x.device))
        loss = cross_entropy(model(x), batch.y)
        self._optimiser.minimise(loss)
        return StepReport({"loss": loss.detach()})


class LogitPairingSettings(Settings):
    """Settings of `clp`."""

    strength: float = Field(1.0, ge=0, description="Weight of the penalty.")
    pairs_per_step: int = Field(
        64, ge=2, description="Pairs in one step over all workers; capped at their number."
    )


class LogitPairing(MethodBase):
    """Counterfactual logit pairing (Garg et al. 2019): `L + strength * mean_p |f(x_p) - f(x~_p)|_1`."""

    needs = Needs(pairs=True)
    # Garg et al. try 0.05, 1 and 5 on text, which is no range for images: three decades, the same as for `ipg`.
    search_space = {"strength": LogUniform(0.1, 100)}

    def __init__(self, settings: LogitPairingSettings, context: MethodContext) -> None:
        self._optimiser, self._strength = context.optimiser, settings.strength
        self.pairs_per_step = settings.pairs_per_step

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on task loss and penalty together."""
        assert pairs is not None, "the trainer gives pairs to a method that needs them"
        sizes = [len(batch.y), len(pairs.y), len(pairs.y)]
        logits, first, second = torch.split(model(torch.cat([batch.x, pairs.a, pairs.b])), sizes)
        loss = cross_entropy(logits, batch.y)
        penalty = (first - second).abs().sum(dim=1).mean()
        self._optimiser.minimise(loss + self._strength * penalty)
        return StepReport({"loss": loss.detach(), "penalty": penalty.detach()})
