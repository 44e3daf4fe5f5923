"""Models by name: the settings class and the function that builds the model from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipgl.config import Settings
from ipgl.models.classifier import Classifier
from ipgl.models.cnn import CnnSettings, build_cnn
from ipgl.models.mlp import MlpSettings, build_mlp
from ipgl.models.resnet import ResnetSettings, build_resnet18, build_resnet50


@dataclass(frozen=True)
class ModelEntry:
    """One registry line; `build` takes settings, the input's shape, and the number of classes."""

    settings: type[Settings]
    build: Callable[[Any, tuple[int, ...], int], Classifier]


MODELS: dict[str, ModelEntry] = {
    "mlp": ModelEntry(MlpSettings, build_mlp),
    "cnn": ModelEntry(CnnSettings, build_cnn),
    "resnet18": ModelEntry(ResnetSettings, build_resnet18),
    "resnet50": ModelEntry(ResnetSettings, build_resnet50),
}
