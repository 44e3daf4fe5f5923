"""The optimisers of one training run, which are scheduled, saved and restored together."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ipgl.config import TrainingSettings
from ipgl.data import Dataset
from ipgl.methods import MethodContext, OptimiserKind
from ipgl.models import Classifier
from ipgl.training.collective import Collective
from ipgl.training.optimiser import TorchOptimiser, make_optimiser, schedule_factor


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

    def state_dict(self) -> dict[str, Any]:
        """States of all optimisers, and the initial weights if they are kept."""
        return {"optimisers": [optimiser.state_dict() for optimiser in self.made], "initial": self._initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
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
