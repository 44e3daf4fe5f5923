"""Waterbirds (Sagawa et al. 2020), published or generated: birds before land or water backgrounds.

Reads `metadata.csv` with the columns `img_filename, y, split, place`; `y` 1 is a waterbird, `place` 1 is water. In
Waterbirds-95 the place agrees with the bird for 95% of the training images (3498, 184, 56 and 1057 in the four
groups); in Waterbirds-100 (Petryk et al. 2022) for all of them, so that two groups have no training image.
Validation and test show each bird before either place equally often.

Evaluation resizes to 256 x 256 and takes the middle 224 x 224. Training takes a random part of the same 256 x 256
pixels, as others take it of the full picture.
"""

from __future__ import annotations

from pydantic import Field

from ipgl.data.image_cache import Preparation
from ipgl.data.image_dataset import ImageDatasetSettings, build_image_dataset
from ipgl.data.layouts import WATERBIRDS_FOLDERS, dataset_root, find_layout
from ipgl.data.manifest import Columns, check_table, read_csv
from ipgl.data.types import Dataset

COLUMNS = Columns("img_filename", "y", "place", "split", ("landbird", "waterbird"), ("land", "water"))


class WaterbirdsSettings(ImageDatasetSettings):
    """Settings of `waterbirds`."""

    folder: str | None = Field(
        None, description="Folder of metadata.csv below `root`; null looks in the usual places."
    )


def build_waterbirds(settings: WaterbirdsSettings) -> Dataset:
    """Build the data set from its folder.

    Raises:
        DataError: The folder is not found or found twice, or rows, images or pairs are faulty.
    """
    root = dataset_root(settings.root)
    folder = find_layout("Waterbirds", root, settings.folder, WATERBIRDS_FOLDERS, ["metadata.csv"])
    raw = read_csv(folder / "metadata.csv")
    table, notes = check_table(raw, folder, COLUMNS, skip_bad=settings.skip_bad)
    return build_image_dataset(settings, table, resized_and_cropped(settings.input_size), notes)


def resized_and_cropped(input_size: int) -> Preparation:
    """Squares of 256/224 of the input's size, of which evaluation sees the middle."""
    stored = round(input_size * 256 / 224)
    return Preparation(stored, stored, input_height=input_size, input_width=input_size)
