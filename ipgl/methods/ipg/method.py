"""Invariance Pair-Guided learning (Surner, Khelil, Bothmann; arXiv 2502.18975).

From the paper: invariance pairs isolate the spurious attribute; a corrective gradient computed from the members'
rationale matrices complements gradient descent in a second update; it is adaptive, led by a predefined
invariance condition; IPG-AA adds adversarial augmentation. Ours: the measure `rho`, the forms of adaptivity, all
updates but `sequential`, all discrepancies but `rationale`, the hidden layers' term, and augmenting pairs.

One step, as the paper has it: `step` prepares the pairs, `SequentialUpdate` takes the two gradients.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

from ipgl.config import Choice, LogUniform, Range
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, Needs, StepReport, Toolbox
from ipgl.methods.ipg.augment import adversarial, augmented
from ipgl.methods.ipg.condition import collapsed, overshot
from ipgl.methods.ipg.correction import Corrector
from ipgl.methods.ipg.settings import IpgSettings
from ipgl.methods.ipg.update import UPDATES
from ipgl.models import Classifier


class Ipg(MethodBase):
    """Follow the task's gradient, and a corrective one for as long as the pairs violate the invariance condition."""

    needs = Needs(pairs=True)
    search_space: ClassVar[dict[str, Range]] = {
        "update": Choice(("sequential", "additive")),
        "discrepancy": Choice(("rationale", "logit")),
        "strength": LogUniform(1, 1000),
        "hidden_weight": LogUniform(0.01, 10),
    }

    def __init__(self, settings: IpgSettings, toolbox: Toolbox) -> None:
        self.pairs_per_step = settings.pairs_per_step
        self._settings, self._toolbox = settings, toolbox
        if settings.hidden_weight and not toolbox.model.has_hidden:
            raise ValueError(
                "hidden_weight needs a model that names its hidden layers; set it to 0 for this model"
            )
        self._corrector = Corrector(settings, toolbox.sum_over_workers)
        self._update = UPDATES[settings.update](settings, self._corrector, toolbox)
        self._warmup_steps = settings.warmup_share * toolbox.total_steps
        self._done = 0

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One update from a batch and invariance pairs."""
        assert pairs is not None, "the trainer gives pairs to a method that needs them"
        self._done += 1
        if self._done % self._settings.every:
            return self._plain_step(model, batch)
        pairs = self._prepared(model, pairs)
        strength = self._settings.strength * min(1.0, self._done / (self._warmup_steps + 1))
        return self._update(model, batch, pairs, strength)

    def _prepared(self, model: Classifier, pairs: PairBatch) -> PairBatch:
        pairs = augmented(pairs, self._settings.augment)
        if self._settings.adversarial.steps:
            low, high = self._toolbox.dataset.input_range
            pairs = adversarial(
                pairs, lambda moved: self._discrepancy(model, moved), self._settings.adversarial, low, high
            )
        return pairs

    def _discrepancy(self, model: Classifier, pairs: PairBatch) -> torch.Tensor:
        return self._corrector.discrepancy(model, *self._corrector.activations(model, [pairs.a, pairs.b]))

    def _plain_step(self, model: Classifier, batch: Batch) -> StepReport:
        logits = model(batch.x)
        loss = cross_entropy(logits, batch.y)
        self._toolbox.descend(loss)
        return StepReport(
            {"loss": loss.detach(), "collapsed": collapsed(logits), "overshot": overshot(logits, batch.y)}
        )

    def diagnose(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> dict[str, torch.Tensor]:
        """Norms of the task's and the corrective gradient (of D, unweighted) on one batch, and their cosine."""
        assert pairs is not None, "the trainer gives pairs to a method that needs them"
        descend = self._toolbox.descend
        task = torch.cat([g.flatten() for g in descend.gradients(cross_entropy(model(batch.x), batch.y))])
        corrective = torch.cat([g.flatten() for g in descend.gradients(self._discrepancy(model, pairs))])
        norms = task.norm(), corrective.norm()
        cosine = task @ corrective / (norms[0] * norms[1]).clamp_min(1e-30)
        return {
            "task_gradient_norm": norms[0],
            "corrective_gradient_norm": norms[1],
            "gradient_cosine": cosine,
        }

    def state_dict(self) -> dict[str, Any]:
        """Steps done, and the update's own state."""
        return {"done": self._done, "update": self._update.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._done = int(state["done"])
        self._update.load_state_dict(state["update"])
