"""Complete configuration of one trial, with a concrete value for each setting, and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from ipgl.config.base import Settings
from ipgl.config.study import Component, EvaluationSettings, ResourceSettings
from ipgl.config.training import TrainingSettings

Phase = Literal["search", "final", "component"]


class TrialConfig(Settings):
    """Everything that a trial's result depends on, except for the content of the data.

    Attributes:
        label: The method's name in the study file.
        phase: `component` repeats a final run with one source of randomness drawn again.
        method: The registry entry, with its settings.
        hyperparameters: The searched values by dotted key, as drawn; they are already merged into the sections.
        seed: Seeds the initial weights, the data order and the method's own randomness.
    """

    study: str
    label: str
    phase: Phase
    seed: int
    hyperparameters: dict[str, Any]
    dataset: Component
    model: Component
    method: Component
    training: TrainingSettings
    evaluation: EvaluationSettings
    resources: ResourceSettings
    selection: str

    @property
    def key(self) -> str:
        """A name that depends on the configuration alone, so a trial drawn again after a crash is recognised."""
        return f"{self.label}-{self.phase}-s{self.seed}-{config_hash(self.model_dump(mode='json'))[:10]}"


def config_hash(data: object) -> str:
    """SHA-256 of the canonical JSON of `data`."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
