"""How the corrective gradient joins the task's gradient in one training step: one small strategy each.

Each serves one model and a stack of M alike: what is 0-dim of the one is `[M]` of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ipgl.data import PairBatch
from ipgl.methods.base import Labelled, MethodOptimiser, Optimisers, StepReport, cross_entropy
from ipgl.methods.ipg.correction import Correction, Corrector
from ipgl.methods.ipg.settings import IpgSettings, Strengths
from ipgl.models import Network


class Update(Protocol):
    """One training step from a batch and pairs."""

    def __call__(
        self, model: Network, batch: Labelled, pairs: PairBatch, strength: float | Tensor
    ) -> StepReport:
        """Update the parameters; `strength` is the setting, scaled by the warm-up."""

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def stack(self, members: Sequence[Any]) -> None:
        """Take over the state of single models' updates, in a stack's."""

    def unstack(self, members: Sequence[Any]) -> None:
        """Give it back."""


class _Stateless:
    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""

    def stack(self, members: Sequence[Any]) -> None:
        """Nothing to take over."""

    def unstack(self, members: Sequence[Any]) -> None:
        """Nothing to give."""


class BalancedUpdate(_Stateless):
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

    def __init__(
        self, settings: IpgSettings, strengths: Strengths, corrector: Corrector, optimisers: Optimisers
    ) -> None:
        self._corrector, self._optimiser, self._share = corrector, optimisers.optimiser, strengths.task_share
        self._holds_task, self._by_layer = settings.scaled == "task", settings.balance_over == "layer"

    def __call__(
        self, model: Network, batch: Labelled, pairs: PairBatch, strength: float | Tensor
    ) -> StepReport:
        """One step along the balanced gradient, or the task's alone while the condition holds."""
        loss = cross_entropy(model.head(model.features(batch.x)), batch.y)
        task = self._optimiser.gradients(loss)
        correction = self._corrector(model, self._corrector.activations(model, pairs))
        sizes = model.layer_sizes if self._by_layer else [len(task)]
        task_lengths = _lengths(task, sizes, model.lead)
        done = report(loss, correction, strength).scalars
        if _is_off(strength) or correction.known_to_be_zero:
            self._optimiser.step_along(task)
            nothing = torch.zeros_like(done["multiplier"])
            return StepReport(
                done
                | {"task_length": _whole(task_lengths), "corrective_length": nothing, "multiplier": nothing}
            )

        corrective = self._optimiser.gradients(correction.discrepancy)
        corrective_lengths = _lengths(corrective, sizes, model.lead)
        weight = strength * correction.weight
        held = self._share * corrective_lengths.clamp_min(self._LEAST) / task_lengths.clamp_min(self._LEAST)
        # What the correction does not touch, such as a head that is constant in it, has no length to be held to.
        touched = (weight > 0) & (corrective_lengths > self._LEAST)
        of_task = torch.where(touched, held, torch.ones_like(held)) if self._holds_task else None
        of_corrective = weight.expand_as(held) if self._holds_task else weight / held
        layers = [layer for layer, size in enumerate(sizes) for _ in range(size)]
        self._optimiser.step_along(
            [
                (g if of_task is None else _beside(of_task[layer], g) * g)
                + _beside(of_corrective[layer], c) * c
                for layer, g, c in zip(layers, task, corrective, strict=True)
            ]
        )
        # What a stack's other members need is not part of this one's step.
        corrective_lengths = torch.where(weight > 0, corrective_lengths, torch.zeros_like(corrective_lengths))
        parts = [_whole(task_lengths), _whole(corrective_lengths)]
        ratio = _whole(of_corrective * corrective_lengths) / parts[1].clamp_min(self._LEAST)
        if of_task is not None:
            ratio = ratio * parts[0] / _whole(of_task * task_lengths).clamp_min(self._LEAST)
        return StepReport(
            done | {"task_length": parts[0], "corrective_length": parts[1], "multiplier": ratio}
        )


class SequentialUpdate(_Stateless):
    """Two steps, our first reading: `theta' = theta - optimiser(grad L)`, then down `strength * a * grad D` from there.

    The condition is judged at `theta'`. The second step is plain gradient descent unless another optimiser is
    asked for; an adaptive one normalises the gradient's size away, so there strength and `a` scale the step. Weight
    decay belongs to the first step, whichever optimiser takes the second.
    """

    def __init__(
        self, settings: IpgSettings, strengths: Strengths, corrector: Corrector, optimisers: Optimisers
    ) -> None:
        self._corrector, self._optimiser = corrector, optimisers.optimiser
        kind = settings.corrective_optimiser
        self._second: MethodOptimiser = (
            optimisers.optimiser if kind == "task" else optimisers.new_optimiser(kind, None)
        )

    def __call__(
        self, model: Network, batch: Labelled, pairs: PairBatch, strength: float | Tensor
    ) -> StepReport:
        """Task step, then corrective step."""
        loss = cross_entropy(model.head(model.features(batch.x)), batch.y)
        self._optimiser.minimise(loss)

        correction = self._corrector(model, self._corrector.activations(model, pairs))
        if not _is_off(strength) and not correction.known_to_be_zero:
            self._second.minimise(correction.discrepancy, strength * correction.weight)
        return report(loss, correction, strength)


class AdditiveUpdate(_Stateless):
    """One step down `L + strength * a * D` (our cheaper reading): one forward over batch and pairs together."""

    def __init__(
        self, settings: IpgSettings, strengths: Strengths, corrector: Corrector, optimisers: Optimisers
    ) -> None:
        self._corrector, self._optimiser = corrector, optimisers.optimiser

    def __call__(
        self, model: Network, batch: Labelled, pairs: PairBatch, strength: float | Tensor
    ) -> StepReport:
        """One joint step."""
        loss, correction = _joint_forward(self._corrector, model, batch, pairs)
        self._optimiser.minimise(loss + strength * correction.weight * correction.discrepancy)
        return report(loss, correction, strength)


class LagrangianUpdate:
    """`additive` with a multiplier that rises while the condition is violated and falls while it holds (ours).

    The threshold is what the user sets; the strength, at which the multiplier starts, finds itself. It moves by
    a factor `exp(rate * e)` with the relative error `e = (measure - threshold) / max(measure, threshold)` in [-1, 1].
    """

    _RANGE = (1e-4, 1e6)

    def __init__(
        self, settings: IpgSettings, strengths: Strengths, corrector: Corrector, optimisers: Optimisers
    ) -> None:
        self._corrector, self._optimiser = corrector, optimisers.optimiser
        self._threshold, self._rate = strengths.invariance_threshold, strengths.multiplier_rate
        self._least: float | Tensor
        # The factor itself stops at the ends: wound up beyond them it would answer too late.
        start: float | Tensor
        if isinstance(strengths.strength, Tensor):
            self._least = torch.as_tensor(self._threshold).clamp_min(1e-12)
            start = torch.where(strengths.strength > 0, strengths.strength, 1.0).log()
            self._log_factor = torch.zeros_like(start)
        else:
            self._least = max(float(self._threshold), 1e-12)
            start = math.log(strengths.strength) if strengths.strength else 0.0
            self._log_factor = torch.zeros((), device=optimisers.device)
        self._log_range: Any = tuple(math.log(end) - start for end in self._RANGE)

    def __call__(
        self, model: Network, batch: Labelled, pairs: PairBatch, strength: float | Tensor
    ) -> StepReport:
        """Move the multiplier, then one joint step."""
        loss, correction = _joint_forward(self._corrector, model, batch, pairs)
        larger = correction.measure.clamp_min(self._least)
        error = (correction.measure - self._threshold) / larger
        self._log_factor = (self._log_factor + self._rate * error).clamp(*self._log_range)
        multiplier = strength * self._log_factor.exp()
        self._optimiser.minimise(loss + multiplier * correction.discrepancy)
        done = report(loss, correction, strength)
        return StepReport(done.scalars | {"multiplier": multiplier.detach()})

    def state_dict(self) -> dict[str, Any]:
        """The multiplier."""
        return {"log_factor": self._log_factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._log_factor = state["log_factor"].to(self._log_factor.device)

    def stack(self, members: Sequence[LagrangianUpdate]) -> None:
        """Take over the multipliers of single models."""
        self._log_factor = torch.stack([member._log_factor for member in members])

    def unstack(self, members: Sequence[LagrangianUpdate]) -> None:
        """Give them back."""
        for member, log_factor in zip(members, self._log_factor.unbind(), strict=True):
            member._log_factor = log_factor.clone()


class ProjectedUpdate(_Stateless):
    """`additive`, but a task gradient that would raise D first loses that component while the condition is violated.

    (Ours; the projection is that of gradient surgery, Yu et al. 2020, applied to the task's gradient alone.)
    """

    def __init__(
        self, settings: IpgSettings, strengths: Strengths, corrector: Corrector, optimisers: Optimisers
    ) -> None:
        self._corrector, self._optimiser = corrector, optimisers.optimiser

    def __call__(
        self, model: Network, batch: Labelled, pairs: PairBatch, strength: float | Tensor
    ) -> StepReport:
        """One step along the projected task gradient plus the weighted corrective gradient."""
        loss, correction = _joint_forward(self._corrector, model, batch, pairs)
        corrective = self._optimiser.gradients(correction.discrepancy)
        task = self._optimiser.gradients(loss)
        along, size = _dot(task, corrective, model.lead), _dot(corrective, corrective, model.lead)
        # A step down the task's gradient raises D exactly if the two gradients point apart.
        lost = torch.where(
            (correction.weight > 0) & (along < 0), along / size.clamp_min(1e-30), torch.zeros_like(along)
        )
        weight = strength * correction.weight - _where_on(strength, lost)
        self._optimiser.step_along(
            [g + _beside(weight, c) * c for g, c in zip(task, corrective, strict=True)]
        )
        return report(loss, correction, strength)


UPDATES: dict[str, Callable[[IpgSettings, Strengths, Corrector, Optimisers], Update]] = {
    "balanced": BalancedUpdate,
    "sequential": SequentialUpdate,
    "additive": AdditiveUpdate,
    "lagrangian": LagrangianUpdate,
    "projected": ProjectedUpdate,
}


def report(loss: Tensor, correction: Correction, strength: float | Tensor) -> StepReport:
    """What a corrected step saw."""
    active = (correction.weight > 0).float()
    return StepReport(
        {
            "loss": loss.detach(),
            "discrepancy": correction.discrepancy.detach(),
            "measure": correction.measure,
            "adaptivity": correction.weight,
            "multiplier": strength * correction.weight,
            "corrected": _where_on(strength, active),
        }
    )


def _joint_forward(
    corrector: Corrector, model: Network, batch: Labelled, pairs: PairBatch
) -> tuple[Tensor, Correction]:
    z, members = corrector.joint_activations(model, batch.x, pairs)
    return cross_entropy(model.head(z), batch.y), corrector(model, members)


def _is_off(strength: float | Tensor) -> bool:
    """Whether nothing is to be corrected, as far as the host knows; of a stack only the scale of each step says so."""
    return not isinstance(strength, Tensor) and not strength


def _where_on(strength: float | Tensor, value: Tensor) -> Tensor:
    """The value where there is a correction at all, else 0."""
    if isinstance(strength, Tensor):
        return torch.where(strength > 0, value, torch.zeros_like(value))
    return value if strength else torch.zeros_like(value)


def _dot(a: list[Tensor], b: list[Tensor], lead: int) -> Tensor:
    products = [(x * y).flatten(lead).sum(dim=-1) for x, y in zip(a, b, strict=True)]
    return torch.stack(products).sum(dim=0)


def _lengths(gradients: list[Tensor], sizes: Sequence[int], lead: int) -> Tensor:
    """Euclidean lengths over so many successive parameters each, `[layers]`; of a stack `[layers, M]`."""
    squares = [g.flatten(lead).square().sum(dim=-1) for g in gradients]
    parts = torch.split(torch.stack(squares), list(sizes))
    return torch.stack([part.sum(dim=0) for part in parts]).sqrt()


def _whole(lengths: Tensor) -> Tensor:
    """The length over all layers, 0-dim; of a stack `[M]`."""
    return lengths.square().sum(dim=0).sqrt()


def _beside(weight: Tensor, gradient: Tensor) -> Tensor:
    """A weight of each model of a stack, shaped to multiply its gradient; a 0-dim one as it is."""
    return weight.view(*weight.shape, *[1] * (gradient.dim() - weight.dim())) if weight.dim() else weight
