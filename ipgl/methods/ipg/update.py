"""How the corrective gradient joins the task's gradient in one training step: one small strategy each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.data import Batch, PairBatch
from ipgl.methods.base import Descent, StepReport, Toolbox
from ipgl.methods.ipg.condition import collapsed, overshot
from ipgl.methods.ipg.correction import Correction, Corrector
from ipgl.methods.ipg.settings import IpgSettings
from ipgl.models import Classifier


class Update(Protocol):
    """One training step from a batch and pairs."""

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, strength: float) -> StepReport:
        """Update the parameters; `strength` is the setting, scaled by the warm-up."""

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class _Stateless:
    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


class SequentialUpdate(_Stateless):
    """The paper's two steps: `theta' = theta - optimiser(grad L)`, then from `theta'` down `strength * a * grad D`.

    The condition is judged at `theta'`. The second step is plain gradient descent unless another optimiser is
    asked for; an adaptive one normalises the gradient's size away, so there strength and `a` scale the step.
    """

    def __init__(self, settings: IpgSettings, corrector: Corrector, toolbox: Toolbox) -> None:
        self._corrector, self._descend = corrector, toolbox.descend
        kind = settings.corrective_optimiser
        self._correct: Descent = toolbox.descend if kind == "task" else toolbox.new_descent(kind, None)

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, strength: float) -> StepReport:
        """Task step, then corrective step."""
        logits = model(batch.x)
        loss = cross_entropy(logits, batch.y)
        self._descend(loss)

        correction = self._corrector(model, *self._corrector.activations(model, [pairs.a, pairs.b]))
        if strength and not correction.known_to_be_zero:
            self._correct(correction.discrepancy, strength * correction.weight)
        return report(loss, logits, batch, correction, strength)


class AdditiveUpdate(_Stateless):
    """One step down `L + strength * a * D` (our cheaper reading): one forward over batch and pairs together."""

    def __init__(self, settings: IpgSettings, corrector: Corrector, toolbox: Toolbox) -> None:
        self._corrector, self._descend = corrector, toolbox.descend

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, strength: float) -> StepReport:
        """One joint step."""
        loss, logits, correction = _joint_forward(self._corrector, model, batch, pairs)
        self._descend(loss + strength * correction.weight * correction.discrepancy)
        return report(loss, logits, batch, correction, strength)


class LagrangianUpdate:
    """`additive` with a multiplier that rises while the condition is violated and falls while it holds (ours).

    The threshold is what the user sets; the strength, at which the multiplier starts, finds itself. It moves by
    a factor `exp(rate * e)` with the relative error `e = (measure - threshold) / max(measure, threshold)` in [-1, 1].
    """

    _RANGE = (1e-4, 1e6)

    def __init__(self, settings: IpgSettings, corrector: Corrector, toolbox: Toolbox) -> None:
        self._corrector, self._descend = corrector, toolbox.descend
        self._threshold, self._rate = settings.invariance_threshold, settings.multiplier_rate
        self._log_factor = torch.zeros((), device=toolbox.model.head.weight.device)
        # The factor itself stops at the ends: wound up beyond them it would answer too late.
        start = math.log(settings.strength) if settings.strength else 0.0
        self._log_range = tuple(math.log(end) - start for end in self._RANGE)

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, strength: float) -> StepReport:
        """Move the multiplier, then one joint step."""
        loss, logits, correction = _joint_forward(self._corrector, model, batch, pairs)
        larger = correction.measure.clamp_min(max(self._threshold, 1e-12))
        error = (correction.measure - self._threshold) / larger
        self._log_factor = (self._log_factor + self._rate * error).clamp(*self._log_range)
        multiplier = strength * self._log_factor.exp()
        self._descend(loss + multiplier * correction.discrepancy)
        done = report(loss, logits, batch, correction, strength)
        return StepReport(done.scalars | {"multiplier": multiplier.detach()})

    def state_dict(self) -> dict[str, Any]:
        """The multiplier."""
        return {"log_factor": self._log_factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._log_factor = state["log_factor"].to(self._log_factor.device)


class ProjectedUpdate(_Stateless):
    """`additive`, but a task gradient that would raise D first loses that component while the condition is violated.

    (Ours; the projection is that of gradient surgery, Yu et al. 2020, applied to the task's gradient alone.)
    """

    def __init__(self, settings: IpgSettings, corrector: Corrector, toolbox: Toolbox) -> None:
        self._corrector, self._descend = corrector, toolbox.descend

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, strength: float) -> StepReport:
        """One step along the projected task gradient plus the weighted corrective gradient."""
        loss, logits, correction = _joint_forward(self._corrector, model, batch, pairs)
        corrective = self._descend.gradients(correction.discrepancy)
        task = self._descend.gradients(loss)
        along, size = _dot(task, corrective), _dot(corrective, corrective)
        # A step down the task's gradient raises D exactly if the two gradients point apart.
        lost = torch.where(
            (correction.weight > 0) & (along < 0), along / size.clamp_min(1e-30), torch.zeros_like(along)
        )
        weight = strength * correction.weight - (lost if strength else 0.0)
        self._descend.along([g + weight * c for g, c in zip(task, corrective, strict=True)])
        return report(loss, logits, batch, correction, strength)


UPDATES: dict[str, Callable[[IpgSettings, Corrector, Toolbox], Update]] = {
    "sequential": SequentialUpdate,
    "additive": AdditiveUpdate,
    "lagrangian": LagrangianUpdate,
    "projected": ProjectedUpdate,
}


def report(loss: Tensor, logits: Tensor, batch: Batch, correction: Correction, strength: float) -> StepReport:
    """What a corrected step saw."""
    active = (correction.weight > 0).float()
    return StepReport(
        {
            "loss": loss.detach(),
            "discrepancy": correction.discrepancy.detach(),
            "measure": correction.measure,
            "adaptivity": correction.weight,
            "multiplier": strength * correction.weight,
            "corrected": active if strength else torch.zeros_like(active),
            "collapsed": collapsed(logits),
            "overshot": overshot(logits, batch.y),
        }
    )


def _joint_forward(
    corrector: Corrector, model: Classifier, batch: Batch, pairs: PairBatch
) -> tuple[Tensor, Tensor, Correction]:
    task, a, b = corrector.activations(model, [batch.x, pairs.a, pairs.b])
    logits = model.head(task.z)
    return cross_entropy(logits, batch.y), logits, corrector(model, a, b)


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
