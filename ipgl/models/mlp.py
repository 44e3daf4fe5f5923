"""A plain multi-layer perceptron on flattened inputs, the model of the ColoredMNIST literature."""

from __future__ import annotations

import math
from collections import OrderedDict

from pydantic import Field
from torch import nn

from ipgl.config import Settings
from ipgl.models.classifier import Classifier


class MlpSettings(Settings):
    """Settings of `mlp`."""

    width: int = Field(256, ge=1, description="Units in each hidden layer.")
    depth: int = Field(2, ge=1, description="Hidden layers.")


def build_mlp(settings: MlpSettings, input_shape: tuple[int, ...], num_classes: int) -> Classifier:
    """Linear layers with ReLU; the last hidden layer is the feature vector."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    size = math.prod(input_shape)
    for number in range(settings.depth):
        layers[f"linear{number}"] = nn.Linear(size, settings.width)
        layers[f"relu{number}"] = nn.ReLU()
        size = settings.width
    hidden = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
    return Classifier(nn.Sequential(layers), size, num_classes, hidden)
