"""Steps of a fused optimiser that call its kernel directly.

`torch.optim` spends 50 microseconds and more of each step on finding out what was the same in the step before, more
than its kernel takes on a small model. Here that is kept; numbers and states are the optimiser's own. Without it whole
steps of a multi-layer perceptron take longer on one core (docs/results/speed.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipgl.core.private_apis import fused_adam, fused_sgd


class FusedStep:
    """Steps of one optimiser with a single group of parameters: an Adam, AdamW or SGD made with `fused=True`.

    Any other optimiser steps as ever.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        """Take over the steps; call `let_go` before the optimiser's states are read or replaced."""
        self._optimiser = optimiser
        self._parameters: list[Tensor] = optimiser.param_groups[0]["params"]
        self._kernel: Callable[[list[Tensor]], None] | None = None
        self._moving: list[bool] = []

    def __call__(self, gradients: Sequence[Tensor | None] | None = None) -> None:
        """Take one step from the parameters' gradients, or given ones; parameters without one stay as they are."""
        if gradients is None:
            gradients = [p.grad for p in self._parameters]
        if self._kernel is None or [g is not None for g in gradients] != self._moving:
            self.let_go()
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            self._optimiser.step()  # makes the states that are missing
            self._take_hold(gradients)
            return
        with torch.no_grad():
            self._kernel([g for g in gradients if g is not None])

    def let_go(self) -> None:
        """Put the optimiser's states back into its own form, before they are read or replaced."""
        if self._kernel is not None:
            for state in self._optimiser.state.values():
                if "step" in state:
                    state["step"] = state["step"].clone()
        self._kernel = None

    def _take_hold(self, gradients: Sequence[Tensor | None]) -> None:
        self._moving = [g is not None for g in gradients]
        parameters = [p for p, moving in zip(self._parameters, self._moving, strict=True) if moving]
        states = [self._optimiser.state.get(p, {}) for p in parameters]
        (group,) = self._optimiser.param_groups  # the optimiser makes it anew when it is restored
        if not parameters or not group.get("fused"):
            return
        if isinstance(self._optimiser, torch.optim.Adam):
            self._kernel = self._adam(group, parameters, states)
        elif isinstance(self._optimiser, torch.optim.SGD):
            self._kernel = self._sgd(group, parameters, states)

    def _adam(
        self, group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Any]]
    ) -> Callable[[list[Tensor]], None] | None:
        if group["amsgrad"] or len({float(state["step"]) for state in states}) > 1:
            return None
        step = states[0]["step"].clone()
        for state in states:
            state["step"] = step  # one counter for all that move together
        steps = [step] * len(states)
        # The same number in NumPy's hands: torch takes 10 microseconds to add one.
        counter = step.numpy() if step.device.type == "cpu" else None
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        decoupled = group["decoupled_weight_decay"]
        beta1, beta2 = group["betas"]

        def kernel(gradients: list[Tensor]) -> None:
            if counter is None:
                step.add_(1)
            else:
                np.add(counter, 1, out=counter)
            fused_adam(
                (parameters, gradients, means, squares, steps),
                decoupled,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

        return kernel

    def _sgd(
        self, group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Any]]
    ) -> Callable[[list[Tensor]], None]:
        buffers = [state["momentum_buffer"] for state in states] if group["momentum"] else []

        def kernel(gradients: list[Tensor]) -> None:
            fused_sgd(
                (parameters, gradients, buffers),
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
            )

        return kernel
