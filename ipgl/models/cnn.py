"""A small convolutional network: four 3x3 layers with group normalisation, then the mean over positions.

The shape of DomainBed's `MNIST_CNN` (Gulrajani and Lopez-Paz 2021); it takes any input size of at least 4 x 4.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import nn

from ipgl.config import Settings
from ipgl.models.classifier import Classifier

_GROUPS = 8


class CnnSettings(Settings):
    """Settings of `cnn`."""

    width: int = Field(
        64, ge=_GROUPS, multiple_of=_GROUPS, description="Channels of the first layer; later ones have twice."
    )


def build_cnn(settings: CnnSettings, input_shape: tuple[int, ...], num_classes: int) -> Classifier:
    """Four convolutions, the second with stride 2; features are the last one's channels.

    Raises:
        ValueError: Inputs are not images of at least 4 x 4.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 4:
        raise ValueError(
            f"cnn takes images [channels, height, width] of at least 4 x 4, but got {input_shape}"
        )
    wide = 2 * settings.width
    channels = (input_shape[0], settings.width, wide, wide, wide)
    layers: list[nn.Module] = []
    for number, (inside, outside) in enumerate(pairwise(channels)):
        layers += [
            nn.Conv2d(inside, outside, 3, stride=2 if number == 1 else 1, padding=1),
            nn.ReLU(),
            nn.GroupNorm(_GROUPS, outside),
        ]
    hidden = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    return Classifier(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), wide, num_classes, hidden
    )
