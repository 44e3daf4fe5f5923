"""The optimisers that methods use, and the learning rate over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ipgl.config import OptimiserSettings, ScheduleSettings
from ipgl.training.collective import Collective
from ipgl.training.fused_step import FusedStep


def make_optimiser(settings: OptimiserSettings, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the study file names, in its fused form (one pass over all parameters)."""
    rate, decay = settings.lr, settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, rate, settings.momentum, weight_decay=decay, fused=True)
    if settings.name == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=True)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)


def schedule_factor(settings: ScheduleSettings, step: int, total: int) -> float:
    """Learning rate of step `step` (0-based, of `total`) as a factor of the optimiser's own."""
    warmup = settings.warmup_share * total
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.name == "constant":
        return 1.0
    progress = (step - warmup) / max(1.0, total - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if settings.name == "cosine" else 1.0 - progress


def like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient in its parameter's memory layout: on the CPU a fused optimiser takes any other for that."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


@contextmanager
def _replaced(group: dict[str, Any], values: dict[str, Any]) -> Iterator[None]:
    """Give a group of parameters other settings for one step."""
    before = {name: group[name] for name in values}
    group.update(values)
    try:
        yield
    finally:
        group.update(before)


class TorchOptimiser:
    """One optimiser over all parameters of a model: gradient, mean over workers, clip, step."""

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        collective: Collective,
        clip_norm: float | None = None,
    ) -> None:
        self._optimiser, self._take_step = optimiser, FusedStep(optimiser)
        self._parameters = parameters
        self._collective, self._clip_norm = collective, clip_norm
        self._base_rates = [float(group["lr"]) for group in optimiser.param_groups]
        self._factor = 1.0
        # Plain gradient descent is linear in the gradient, so a step is scaled without touching the rates.
        self._linear = isinstance(optimiser, torch.optim.SGD) and not any(
            group["momentum"] or group["weight_decay"] for group in optimiser.param_groups
        )
        decoupled = isinstance(optimiser, torch.optim.AdamW)
        # What is measured in the objective's unit, beside the loss.
        self._in_its_unit = ("eps",) if decoupled else ("eps", "weight_decay")

    def minimise(self, loss: Tensor, scale: Tensor | None = None) -> None:
        """Take one step down the gradient of `loss` (0-dim), averaged over workers and clipped.

        `scale` (0-dim) multiplies the step itself, after clipping; a scaled step has no weight decay.
        """
        for parameter in self._parameters:
            parameter.grad = None
        torch.autograd.backward(loss)
        self._collective.average_gradients(self._parameters)
        self.step(scale)

    def divided(self, loss: Tensor, divisor: float) -> None:
        """Take one step down `(loss + weight decay) / divisor`; see `TaskOptimiser`."""
        (group,) = self._optimiser.param_groups
        with _replaced(group, {name: group[name] / divisor for name in self._in_its_unit if name in group}):
            self.minimise(loss / divisor)

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Gradients of `loss`, averaged over workers, in the parameters' order (zeros where there is none)."""
        found = torch.autograd.grad(loss, self._parameters, retain_graph=True, allow_unused=True)
        gradients = [
            torch.zeros_like(p) if g is None else g for p, g in zip(self._parameters, found, strict=True)
        ]
        self._collective.average(gradients)
        return gradients

    def step_along(self, gradients: Sequence[Tensor]) -> None:
        """Take one step from given gradients, clipped."""
        self.step(None, [like(g, p) for g, p in zip(gradients, self._parameters, strict=True)])

    def step(self, scale: Tensor | None, gradients: Sequence[Tensor | None] | None = None) -> None:
        """Take one step from the gradients that the parameters have, or given ones: clipped, then scaled."""
        if gradients is None:
            gradients = [p.grad for p in self._parameters]
        if self._clip_norm is not None:
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        if scale is None:
            self._take_step(gradients)
        elif self._linear:
            torch._foreach_mul_([g for g in gradients if g is not None], scale)
            self._take_step(gradients)
        else:
            (group,) = self._optimiser.param_groups
            with _replaced(group, {"lr": group["lr"] * scale.to(torch.float32), "weight_decay": 0.0}):
                self._take_step(gradients)
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            # Autocast keeps the weights that it has cast, and a second forward pass would see the old ones.
            torch.clear_autocast_cache()

    def schedule(self, factor: float) -> None:
        """Set the learning rates to `factor` times those that the optimiser began with."""
        if factor != self._factor:
            self._factor = factor
            for group, rate in zip(self._optimiser.param_groups, self._base_rates, strict=True):
                group["lr"] = rate * factor

    def reset(self) -> None:
        """Forget momenta and every other state."""
        self._take_step.let_go()
        self._optimiser.state.clear()

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state."""
        self._take_step.let_go()
        return self._optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the learning rate follows the schedule, not the state."""
        self._take_step.let_go()
        self._optimiser.load_state_dict(state)
        self._factor = math.nan  # so that the next call of `schedule` writes the rates
