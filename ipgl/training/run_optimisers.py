"""The optimisers of one run: those that the method is lent, scheduled, saved and restored together."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ipgl.config import TrainingSettings
from ipgl.data import Dataset
from ipgl.methods import DescentKind, Toolbox
from ipgl.models import Classifier
from ipgl.training.collective import Collective
from ipgl.training.optimiser import OptimiserDescent, make_optimiser, schedule_factor


class Workshop:
    """Builds the toolbox, and keeps what it has lent in the order in which it was asked for."""

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
        self.lent: list[OptimiserDescent] = []
        self._initial: dict[str, Any] | None = None
        self.toolbox = Toolbox(
            model=model,
            dataset=dataset,
            total_steps=total_steps,
            descend=self._lend("task", None),
            new_descent=self._lend,
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
        for descent in self.lent:
            descent.schedule(factor)

    def state_dict(self) -> dict[str, Any]:
        """States of all optimisers, and the initial weights if they are kept."""
        return {"optimisers": [descent.state_dict() for descent in self.lent], "initial": self._initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for descent, saved in zip(self.lent, state["optimisers"], strict=True):
            descent.load_state_dict(saved)
        self._initial = state["initial"]

    def _lend(self, kind: DescentKind, model: Classifier | None) -> OptimiserDescent:
        parameters = list((model or self._model).parameters())
        rate = self._settings.optimiser.lr
        optimiser: torch.optim.Optimizer
        if kind == "task":
            optimiser = make_optimiser(self._settings.optimiser, parameters)
        elif kind == "sgd":
            optimiser = torch.optim.SGD(parameters, lr=rate, fused=True)
        else:
            optimiser = torch.optim.Adam(parameters, lr=rate, fused=True)
        descent = OptimiserDescent(optimiser, parameters, self._collective, self._settings.clip_norm)
        self.lent.append(descent)
        return descent

    def _restart(self) -> None:
        assert self._initial is not None, "the trainer keeps the initial weights of a method that restarts"
        self._model.load_state_dict(self._initial)
        torch.clear_autocast_cache()  # it may hold the weights before, cast to low precision
        for descent in self.lent:
            descent.reset()
