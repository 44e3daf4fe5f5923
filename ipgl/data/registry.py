"""Data sets by name: the settings class and the function that builds the data set from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipgl.config import Settings
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.data.types import Dataset


@dataclass(frozen=True)
class DatasetEntry:
    """One registry line."""

    settings: type[Settings]
    build: Callable[[Any], Dataset]


DATASETS: dict[str, DatasetEntry] = {
    "colored_mnist": DatasetEntry(ColoredMnistSettings, build_colored_mnist),
}
