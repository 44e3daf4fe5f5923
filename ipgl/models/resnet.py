"""Residual networks from torchvision (He et al. 2016), their last layer replaced by the head."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from ipgl.config import Settings
from ipgl.core.errors import DataError
from ipgl.models.classifier import Classifier


class ResnetSettings(Settings):
    """Settings of `resnet18` and `resnet50`."""

    weights: Literal["imagenet"] | None = Field(
        None, description="imagenet starts from torchvision's weights."
    )
    frozen: bool = Field(
        False, description="Compute the features once, without augmentation, and train a head on them alone."
    )


def build_resnet18(settings: ResnetSettings, input_shape: tuple[int, ...], num_classes: int) -> Classifier:
    """ResNet-18: 512 features. Errors as `build_resnet50`."""
    return _build("resnet18", settings, input_shape, num_classes)


def build_resnet50(settings: ResnetSettings, input_shape: tuple[int, ...], num_classes: int) -> Classifier:
    """ResNet-50: 2048 features. If it is frozen, the inputs are its features already and the model is a head.

    Raises:
        DataError: Weights are asked for, are not in torch's cache, and cannot be downloaded.
        ValueError: Weights are asked for and the inputs do not have three channels, or the backbone is frozen and
            the inputs are not its features.
    """
    return _build("resnet50", settings, input_shape, num_classes)


def _build(name: str, settings: ResnetSettings, input_shape: tuple[int, ...], num_classes: int) -> Classifier:
    if settings.frozen:
        if len(input_shape) != 1:
            raise ValueError(
                f"the head of a frozen {name} takes features [d], but got inputs of shape {input_shape}"
            )
        return Classifier(nn.Identity(), input_shape[0], num_classes)
    import torchvision  # takes over a second: not at the top of a module that every model shares

    network = torchvision.models.get_model(name, weights=None)
    if settings.weights == "imagenet":
        if input_shape[0] != 3:
            raise ValueError(f"ImageNet weights take 3 channels, but got inputs of shape {input_shape}")
        network.load_state_dict(_imagenet_weights(torchvision.models.get_model_weights(name).DEFAULT.url))
    elif input_shape[0] != 3:
        old = network.conv1
        network.conv1 = nn.Conv2d(
            input_shape[0], old.out_channels, old.kernel_size, old.stride, old.padding, bias=False
        )
    size = int(network.fc.in_features)
    network.fc = nn.Identity()
    hidden = [network.layer1, network.layer2, network.layer3, network.layer4]
    return Classifier(network, size, num_classes, hidden)


def _imagenet_weights(url: str) -> dict[str, torch.Tensor]:
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    try:
        return torch.hub.load_state_dict_from_url(url, progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # urllib, ssl and the hash check each raise their own
        if file.exists():
            raise DataError(
                f"the ImageNet weights {file} cannot be read ({type(error).__name__}); "
                "remove the file so that it is downloaded again"
            ) from None
        raise DataError(
            f"the ImageNet weights {file.name} are not at {file} and could not be downloaded "
            f"({type(error).__name__}: {error}); put the file there (TORCH_HOME moves the folder), "
            "or leave `weights` out to start from random weights"
        ) from None
