"""`ImageTable`: checked rows of an image data set, with label, attribute, split and source line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ipgl.data.images import FileImage

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageTable:
    """Checked rows: every value is in range, and every path is below `root`.

    Attributes:
        file: The file that the rows come from.
        root: The folder that `paths` are relative to.
        paths: Image of each row, with `/` between folders.
        label: Class, int64 `[N]`.
        attribute: Spurious attribute, int64 `[N]`.
        split: `TRAIN`, `VALIDATION` or `TEST`, int64 `[N]`.
        environment: Training environment, int64 `[N]`; zeros unless the file says otherwise.
        line: Line of each row in `file`, from 1, int64 `[N]`.
        class_names: Names of the labels.
        attribute_names: Names of the attribute's values.
        extra: The file's other columns by name, as text `[N]` (`place_filename`, CelebA's 40 attributes).
    """

    file: Path
    root: Path
    paths: tuple[str, ...]
    label: NDArray[np.int64]
    attribute: NDArray[np.int64]
    split: NDArray[np.int64]
    environment: NDArray[np.int64]
    line: NDArray[np.int64]
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    extra: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, position: int) -> str:
        """Place of a row for messages: `metadata.csv, line 12 (birds/1.jpg)`."""
        return f"{self.file}, line {self.line[position]} ({self.paths[position]})"

    def source(self, position: int) -> FileImage:
        """The image of a row."""
        return FileImage(self.root / self.paths[position], self.where(position))

    def rows_of(self, split: int) -> NDArray[np.int64]:
        """Positions of a split's rows in order: row `rows_of(TRAIN)[i]` is example `i` of `Dataset.train`."""
        return np.flatnonzero(self.split == split)

    def take(self, index: NDArray[np.int64]) -> ImageTable:
        """The rows at `index`."""
        return replace(
            self,
            paths=tuple(self.paths[i] for i in index),
            label=self.label[index],
            attribute=self.attribute[index],
            split=self.split[index],
            environment=self.environment[index],
            line=self.line[index],
            extra={name: values[index] for name, values in self.extra.items()},
        )
