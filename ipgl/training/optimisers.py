"""The optimisers of a training run: how each steps, the learning rate over the steps, and their state together."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ipgl.config import OptimiserSettings, ScheduleSettings, TrainingSettings
from ipgl.data import Dataset
from ipgl.methods import MethodContext, OptimiserKind
from ipgl.models import Classifier, StateDict
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

    def state_dict(self) -> StateDict:
        """The optimiser's state."""
        self._take_step.let_go()
        return self._optimiser.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave; the learning rate follows the schedule, not the state."""
        self._take_step.let_go()
        self._optimiser.load_state_dict(state)
        self._factor = math.nan  # so that the next call of `schedule` writes the rates


class RunOptimisers:
    """Makes the optimisers that a method asks for, and keeps them in that order."""

    def __init__(
        self,
        model: Classifier,
        dataset: Dataset,
        settings: TrainingSettings,
        total_steps: int,
        collective: Collective,
    ) -> None:
        self._model, self._settings, self._collective = model, settings, collective
        self._total_steps = total_steps
        self.made: list[TorchOptimiser] = []
        self._initial: dict[str, Any] | None = None
        self.context = MethodContext(
            model=model,
            dataset=dataset,
            total_steps=total_steps,
            optimiser=self._new("task", None),
            new_optimiser=self._new,
            workers=collective.workers,
            sum_over_workers=collective.sum,
            restart=self._restart,
        )

    def remember_initial_weights(self) -> None:
        """Keep the weights that `restart` goes back to."""
        self._initial = copy.deepcopy(self._model.state_dict())

    def schedule(self, step: int) -> None:
        """Set every optimiser's learning rate to that of step `step` (0-based)."""
        factor = schedule_factor(self._settings.schedule, step, self._total_steps)
        for optimiser in self.made:
            optimiser.schedule(factor)

    def state_dict(self) -> StateDict:
        """States of all optimisers, and the initial weights if they are kept."""
        return {"optimisers": [optimiser.state_dict() for optimiser in self.made], "initial": self._initial}

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""
        for optimiser, saved in zip(self.made, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self._initial = state["initial"]

    def _new(self, kind: OptimiserKind, model: Classifier | None) -> TorchOptimiser:
        parameters = list((model or self._model).parameters())
        rate = self._settings.optimiser.lr
        optimiser: torch.optim.Optimizer
        if kind == "task":
            optimiser = make_optimiser(self._settings.optimiser, parameters)
        elif kind == "sgd":
            optimiser = torch.optim.SGD(parameters, lr=rate, fused=True)
        else:
            optimiser = torch.optim.Adam(parameters, lr=rate, fused=True)
        made = TorchOptimiser(optimiser, parameters, self._collective, self._settings.clip_norm)
        self.made.append(made)
        return made

    def _restart(self) -> None:
        assert self._initial is not None, "the trainer keeps the initial weights of a method that restarts"
        self._model.load_state_dict(self._initial)
        torch.clear_autocast_cache()  # it may hold the weights before, cast to low precision
        for optimiser in self.made:
            optimiser.reset()
