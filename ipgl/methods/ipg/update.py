"""How the corrective gradient joins the task's gradient in one training step: one small strategy each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.data import Batch, PairBatch
from ipgl.methods.base import Labelled, MethodContext, MethodOptimiser, Objectives, StepReport
from ipgl.methods.ipg.condition import Correction, Corrector
from ipgl.methods.ipg.settings import IpgSettings, Numbers
from ipgl.models import Classifier


class Update(Protocol):
    """One training step from a batch and pairs."""

    moving: dict[str, Tensor]  # state that each step moves

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, numbers: Numbers) -> StepReport:
        """Update the parameters."""


class OneStepUpdate:
    """An update that takes one step, in pieces of which only `__call__` changes anything (see `PackableMethod`)."""

    def __init__(self, settings: IpgSettings, corrector: Corrector, context: MethodContext) -> None:
        self._settings, self._corrector, self._optimiser = settings, corrector, context.optimiser
        self.moving: dict[str, Tensor] = {}

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, numbers: Numbers) -> StepReport:
        """One step down the only loss."""
        (loss,), seen, self.moving = self.objectives(model, batch, pairs, numbers, self.moving)
        self._optimiser.minimise(loss)
        return StepReport(seen)

    def objectives(
        self,
        model: Classifier,
        batch: Labelled,
        pairs: PairBatch,
        numbers: Numbers,
        moving: dict[str, Tensor],
    ) -> Objectives:
        """The losses of which the step wants gradients, and what it saw."""
        raise NotImplementedError

    def combine(
        self, gradients: Sequence[Sequence[Tensor]], seen: dict[str, Tensor], numbers: Numbers
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The step's gradient and report, of the gradients of two losses."""
        raise NotImplementedError


class BalancedUpdate(OneStepUpdate):
    """The paper's update: while the condition is violated, the task gradient is held to a share of the corrective one.

    From the paper (caption of its Figure 1): while the invariance condition is violated, the loss gradient is scaled
    to two thirds of the corrective gradient's length; when it holds, the task steps freely. With plain gradient descent
    and both gradients at the same parameters, its two steps are one step along

        task_share * ||g_c|| * g_t / ||g_t|| + g_c        (`scaled: task`)

    of the task's gradient `g_t` and the corrective one `g_c`. A share below 1 makes each such step lower D to first
    order, whatever the angle between the two. Ours is the same direction at the task gradient's length,

        g_t + ||g_t|| * g_c / (task_share * ||g_c||)       (`scaled: corrective`)

    which any optimiser can take: neither a short corrective gradient stops training, nor do steps change their size
    by orders of magnitude as the condition comes to hold. Momentum and Adam see this one gradient. Holding the *steps*
    of two adaptive optimisers to the share instead works worse (docs/results/balanced.md).

    With `strength * a` other than 1 the corrective gradient is multiplied by it, so that warm-up and adaptivity mean
    what they mean elsewhere.
    """

    # A corrective gradient shorter than this counts as this long: it fades out instead of being blown up.
    _LEAST = 1e-12

    def __init__(self, settings: IpgSettings, corrector: Corrector, context: MethodContext) -> None:
        super().__init__(settings, corrector, context)
        sizes = context.model.layer_sizes
        self._sizes = sizes if settings.balance_over == "layer" else [sum(sizes)]
        self._layers = [layer for layer, size in enumerate(self._sizes) for _ in range(size)]

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, numbers: Numbers) -> StepReport:
        """One step along the balanced gradient, or the task's alone while the condition holds."""
        (loss, discrepancy), seen, _ = self.objectives(model, batch, pairs, numbers, self.moving)
        task = self._optimiser.gradients(loss)
        if _known_to_be_nothing(seen["adaptivity"], numbers):
            self._optimiser.step_along(task)
            nothing = torch.zeros_like(seen["multiplier"])
            length = _whole(_lengths(task, self._sizes))
            return StepReport(
                seen | {"task_length": length, "corrective_length": nothing, "multiplier": nothing}
            )
        along, seen = self.combine([task, self._optimiser.gradients(discrepancy)], seen, numbers)
        self._optimiser.step_along(along)
        return StepReport(seen)

    def objectives(
        self,
        model: Classifier,
        batch: Labelled,
        pairs: PairBatch,
        numbers: Numbers,
        moving: dict[str, Tensor],
    ) -> Objectives:
        """Loss and discrepancy, each with a forward pass of its own."""
        loss = cross_entropy(model.head(model.features(batch.x)), batch.y)
        correction = self._corrector(model, self._corrector.activations(model, pairs), numbers)
        return Objectives((loss, correction.discrepancy), report(loss, correction, numbers), moving)

    def combine(
        self, gradients: Sequence[Sequence[Tensor]], seen: dict[str, Tensor], numbers: Numbers
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The balanced gradient; the task's alone where the condition holds."""
        task, corrective = gradients
        task_lengths, corrective_lengths = (_lengths(each, self._sizes) for each in gradients)
        weight = seen["multiplier"]
        held = numbers.task_share * corrective_lengths.clamp_min(self._LEAST)
        held = held / task_lengths.clamp_min(self._LEAST)
        # What the correction does not touch, such as a head that is constant in it, has no length to be held to.
        touched = (weight > 0) & (corrective_lengths > self._LEAST)
        holds_task = self._settings.scaled == "task"
        of_task = torch.where(touched, held, torch.ones_like(held)) if holds_task else None
        of_corrective = weight.expand_as(held) if holds_task else weight / held
        along = [
            (g if of_task is None else of_task[layer] * g) + of_corrective[layer] * c
            for layer, g, c in zip(self._layers, task, corrective, strict=True)
        ]
        corrective_lengths = torch.where(weight > 0, corrective_lengths, torch.zeros_like(corrective_lengths))
        parts = [_whole(task_lengths), _whole(corrective_lengths)]
        ratio = _whole(of_corrective * corrective_lengths) / parts[1].clamp_min(self._LEAST)
        if of_task is not None:
            ratio = ratio * parts[0] / _whole(of_task * task_lengths).clamp_min(self._LEAST)
        return along, seen | {"task_length": parts[0], "corrective_length": parts[1], "multiplier": ratio}


class SequentialUpdate:
    """Two steps, our first reading: `theta' = theta - optimiser(grad L)`, then down `strength * a * grad D` from there.

    The condition is judged at `theta'`. The second step is plain gradient descent unless another optimiser is
    asked for; an adaptive one normalises the gradient's size away, so there strength and `a` scale the step. Weight
    decay belongs to the first step, whichever optimiser takes the second.
    """

    def __init__(self, settings: IpgSettings, corrector: Corrector, context: MethodContext) -> None:
        self._corrector, self._optimiser = corrector, context.optimiser
        kind = settings.corrective_optimiser
        self._second: MethodOptimiser = (
            context.optimiser if kind == "task" else context.new_optimiser(kind, None)
        )
        self.moving: dict[str, Tensor] = {}

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, numbers: Numbers) -> StepReport:
        """Task step, then corrective step."""
        loss = cross_entropy(model.head(model.features(batch.x)), batch.y)
        self._optimiser.minimise(loss)

        correction = self._corrector(model, self._corrector.activations(model, pairs), numbers)
        if not _known_to_be_nothing(correction.weight, numbers):
            self._second.minimise(correction.discrepancy, numbers.strength * correction.weight)
        return StepReport(report(loss, correction, numbers))


class AdditiveUpdate(OneStepUpdate):
    """One step down `L + strength * a * D` (our cheaper reading): one forward over batch and pairs together."""

    def objectives(
        self,
        model: Classifier,
        batch: Labelled,
        pairs: PairBatch,
        numbers: Numbers,
        moving: dict[str, Tensor],
    ) -> Objectives:
        """The joint loss."""
        loss, correction = _joint_forward(self._corrector, model, batch, pairs, numbers)
        joint = loss + numbers.strength * correction.weight * correction.discrepancy
        return Objectives((joint,), report(loss, correction, numbers), moving)


class LagrangianUpdate(OneStepUpdate):
    """`additive` with a multiplier that rises while the condition is violated and falls while it holds (ours).

    The threshold is what the user sets; the strength, at which the multiplier starts, finds itself. It moves by
    a factor `exp(rate * e)` with the relative error `e = (measure - threshold) / max(measure, threshold)` in [-1, 1].
    """

    _RANGE = (1e-4, 1e6)

    def __init__(self, settings: IpgSettings, corrector: Corrector, context: MethodContext) -> None:
        super().__init__(settings, corrector, context)
        self.moving = {"log_factor": torch.zeros((), device=context.device)}

    def objectives(
        self,
        model: Classifier,
        batch: Labelled,
        pairs: PairBatch,
        numbers: Numbers,
        moving: dict[str, Tensor],
    ) -> Objectives:
        """The joint loss, once the multiplier has moved."""
        loss, correction = _joint_forward(self._corrector, model, batch, pairs, numbers)
        threshold = numbers.invariance_threshold
        larger = correction.measure.clamp_min(threshold).clamp_min(1e-12)
        error = (correction.measure - threshold) / larger
        # The factor itself stops at the ends: wound up beyond them it would answer too late.
        least, most = (math.log(end) - numbers.log_strength for end in self._RANGE)
        log_factor = (moving["log_factor"] + numbers.multiplier_rate * error).clamp_min(least).clamp_max(most)
        multiplier = numbers.strength * log_factor.exp()
        seen = report(loss, correction, numbers) | {"multiplier": multiplier.detach()}
        return Objectives((loss + multiplier * correction.discrepancy,), seen, {"log_factor": log_factor})


class ProjectedUpdate(OneStepUpdate):
    """`additive`, but a task gradient that would raise D first loses that component while the condition is violated.

    (Ours; the projection is that of gradient surgery, Yu et al. 2020, applied to the task's gradient alone.)
    """

    def __call__(self, model: Classifier, batch: Batch, pairs: PairBatch, numbers: Numbers) -> StepReport:
        """One step along the projected task gradient plus the weighted corrective gradient."""
        losses, seen, _ = self.objectives(model, batch, pairs, numbers, self.moving)
        gradients = [self._optimiser.gradients(loss) for loss in losses]
        along, seen = self.combine(gradients, seen, numbers)
        self._optimiser.step_along(along)
        return StepReport(seen)

    def objectives(
        self,
        model: Classifier,
        batch: Labelled,
        pairs: PairBatch,
        numbers: Numbers,
        moving: dict[str, Tensor],
    ) -> Objectives:
        """Loss and discrepancy, of one forward pass."""
        loss, correction = _joint_forward(self._corrector, model, batch, pairs, numbers)
        return Objectives((loss, correction.discrepancy), report(loss, correction, numbers), moving)

    def combine(
        self, gradients: Sequence[Sequence[Tensor]], seen: dict[str, Tensor], numbers: Numbers
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The task's gradient, projected where it would raise D, plus the weighted corrective one."""
        task, corrective = gradients
        along, size = _dot(task, corrective), _dot(corrective, corrective)
        # A step down the task's gradient raises D exactly if the two gradients point apart.
        lost = torch.where(
            (seen["corrected"] > 0) & (along < 0), along / size.clamp_min(1e-30), torch.zeros_like(along)
        )
        weight = seen["multiplier"] - lost
        return [g + weight * c for g, c in zip(task, corrective, strict=True)], seen


UPDATES: dict[str, Callable[[IpgSettings, Corrector, MethodContext], Update]] = {
    "balanced": BalancedUpdate,
    "sequential": SequentialUpdate,
    "additive": AdditiveUpdate,
    "lagrangian": LagrangianUpdate,
    "projected": ProjectedUpdate,
}


def report(loss: Tensor, correction: Correction, numbers: Numbers) -> dict[str, Tensor]:
    """What a corrected step saw."""
    return {
        "loss": loss.detach(),
        "discrepancy": correction.discrepancy.detach(),
        "measure": correction.measure,
        "adaptivity": correction.weight,
        "multiplier": numbers.strength * correction.weight,
        "corrected": (correction.weight > 0).float() * (numbers.strength > 0),
    }


def _joint_forward(
    corrector: Corrector, model: Classifier, batch: Labelled, pairs: PairBatch, numbers: Numbers
) -> tuple[Tensor, Correction]:
    z, members = corrector.joint_activations(model, batch.x, pairs)
    return cross_entropy(model.head(z), batch.y), corrector(model, members, numbers)


def _known_to_be_nothing(adaptivity: Tensor, numbers: Numbers) -> bool:
    """Whether the correction is nothing, where finding that out is free (on a GPU it would be a wait)."""
    off = not numbers.strength
    return off or (adaptivity.device.type == "cpu" and not adaptivity.any().item())


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x * y).flatten().sum(dim=-1) for x, y in zip(a, b, strict=True)]).sum(dim=0)


def _lengths(gradients: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Euclidean lengths over so many successive parameters each, `[layers]`."""
    squares = [g.flatten().square().sum(dim=-1) for g in gradients]
    parts = torch.split(torch.stack(squares), list(sizes))
    return torch.stack([part.sum(dim=0) for part in parts]).sqrt()


def _whole(lengths: Tensor) -> Tensor:
    """The length over all layers, 0-dim."""
    return lengths.square().sum(dim=0).sqrt()
