"""Registry of data sets: name, settings class, and function that builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ipgl.config import Settings, Source
from ipgl.data.celeba import CelebaSettings, build_celeba
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.data.image_folder import ImageFolderSettings, build_image_folder
from ipgl.data.types import Dataset
from ipgl.data.waterbirds import WaterbirdsSettings, build_waterbirds
from ipgl.data.waterbirds_tiny import WaterbirdsTinySettings, build_waterbirds_tiny


@dataclass(frozen=True)
class DatasetEntry:
    """One registry line.

    Attributes:
        settings: Class of the data set's settings.
        build: Takes settings.
        seeds: Source of `search.vary` -> dotted setting that seeds it. A source that is not here is fixed: the study
            file may not vary it.
    """

    settings: type[Settings]
    build: Callable[[Any], Dataset]
    seeds: Mapping[Source, str] = field(default_factory=dict)


# A folder of images comes with its labels and its split; only which of them become pairs is drawn.
_IMAGE_SEEDS: Mapping[Source, str] = {"pairs": "pairs.seed"}
_DRAWN_SEEDS: Mapping[Source, str] = {"pairs": "pairs.seed", "data": "seed"}


DATASETS: dict[str, DatasetEntry] = {
    "colored_mnist": DatasetEntry(ColoredMnistSettings, build_colored_mnist, _DRAWN_SEEDS),
    "waterbirds": DatasetEntry(WaterbirdsSettings, build_waterbirds, _IMAGE_SEEDS),
    "waterbirds_tiny": DatasetEntry(WaterbirdsTinySettings, build_waterbirds_tiny, _DRAWN_SEEDS),
    "celeba": DatasetEntry(CelebaSettings, build_celeba, _IMAGE_SEEDS),
    "image_folder": DatasetEntry(ImageFolderSettings, build_image_folder, _IMAGE_SEEDS),
}
