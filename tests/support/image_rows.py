"""A data set of small images in a cache file, without loaders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ipgl.data import Dataset, Images, PairSet, Split
from ipgl.data.augment import RandomResizedCrop
from ipgl.data.images import scale_and_shift
from ipgl.data.pixel_file import PixelFile


def image_dataset(folder: Path, augment: RandomResizedCrop | None, train: int = 50) -> Dataset:
    """Random 18 x 18 pixels of which inputs are 16 x 16; class 1 is brighter, and a pair's second member green."""
    rng = np.random.default_rng(0)
    count = train + 20
    pixels = rng.integers(0, 120, (count + 20, 18, 18, 3), dtype=np.uint8)
    y = torch.from_numpy(rng.integers(0, 2, count))
    pixels[:count][y.numpy() == 1] += 100
    pixels[count:] = pixels[:20]
    pixels[count:, :, :, 1] = 255
    np.save(folder / "rows.npy", pixels)
    images = Images(PixelFile(folder / "rows.npy"), torch.arange(count + 20), 16, 16, "digest")

    def split(rows: torch.Tensor) -> Split:
        return Split(images.take(rows), y[rows], rows % 2, rows % 2)

    def pairs(rows: torch.Tensor) -> PairSet:
        return PairSet(images.take(rows), images.take(rows + count), y[rows], rows)

    scale, shift = scale_and_shift(torch.device("cpu"))
    rest = torch.arange(train, count)
    return Dataset(
        split(torch.arange(train)),
        split(rest[:10]),
        split(rest[10:]),
        pairs(torch.arange(12)),
        pairs(torch.arange(12, 20)),
        ("dark", "bright"),
        ("0", "1"),
        "images",
        (shift, 255 * scale + shift),
        augment,
    )
