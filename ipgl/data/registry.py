"""Data sets by name: the settings class and the function that builds the data set from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipgl.config import Settings
from ipgl.data.celeba import CelebaSettings, build_celeba
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.data.image_folder import ImageFolderSettings, build_image_folder
from ipgl.data.types import Dataset
from ipgl.data.waterbirds import WaterbirdsSettings, build_waterbirds
from ipgl.data.waterbirds_tiny import WaterbirdsTinySettings, build_waterbirds_tiny


@dataclass(frozen=True)
class DatasetEntry:
    """One registry line."""

    settings: type[Settings]
    build: Callable[[Any], Dataset]


DATASETS: dict[str, DatasetEntry] = {
    "colored_mnist": DatasetEntry(ColoredMnistSettings, build_colored_mnist),
    "waterbirds": DatasetEntry(WaterbirdsSettings, build_waterbirds),
    "waterbirds_tiny": DatasetEntry(WaterbirdsTinySettings, build_waterbirds_tiny),
    "celeba": DatasetEntry(CelebaSettings, build_celeba),
    "image_folder": DatasetEntry(ImageFolderSettings, build_image_folder),
}
