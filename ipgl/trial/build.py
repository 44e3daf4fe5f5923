"""Construction of models and methods from a trial's configuration, and loading of trained models."""

from __future__ import annotations

from pathlib import Path

import torch

from ipgl.config import Component, TrialConfig
from ipgl.core.registry import lookup
from ipgl.data import Dataset, derive_seed
from ipgl.methods import METHODS, MethodContext
from ipgl.methods.base import Method
from ipgl.models import MODELS, Classifier
from ipgl.storage.trial_dir import TrialFolder
from ipgl.trial.datasets import trial_dataset
from ipgl.trial.user_code import FOLDER as IMPORTS
from ipgl.trial.user_code import load_imports


def build_model(component: Component, dataset: Dataset, seed: int) -> Classifier:
    """Build the model that a component names; its initial weights depend only on `seed`."""
    entry = lookup("model", MODELS, component.name)
    torch.manual_seed(derive_seed(seed, "weights"))
    return entry.build(
        entry.settings.model_validate(component.settings), dataset.input_shape, dataset.num_classes
    )


def build_method(component: Component, context: MethodContext) -> Method:
    """Build the method that a component names."""
    entry = lookup("method", METHODS, component.name)
    return entry.build(entry.settings.model_validate(component.settings), context)


def load_model(folder: Path) -> Classifier:
    """The trained model of a completed trial, in evaluation mode on the CPU.

    Args:
        folder: The trial's folder (`TrialFolder.path`).

    Raises:
        StudyStateError: The trial has no result, or its files are damaged.
    """
    trial = TrialFolder(folder)
    study = folder.parent.parent
    load_imports([path.name for path in sorted((study / IMPORTS).glob("*.py"))], study)
    config = TrialConfig.model_validate(trial.require_result().config)
    model = build_model(config.model, trial_dataset(config), config.seed)
    model.load_state_dict(torch.load(trial.files.model, weights_only=True, map_location="cpu"))
    return model.eval()
