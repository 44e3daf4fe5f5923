"""Image augmentation: random resized crop and horizontal flip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

_TRIES = 10


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random rectangle resized to the input's size, and a mirror image half of the time.

    The distribution is that of torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`, which draw from the
    process's global state; here the draw is a function of a generator, so that a resumed run sees the same.

    Attributes:
        scale: Least and largest share of the image's area.
        ratio: Least and largest width over height.
        flip: Whether half of the images are mirrored.
    """

    scale: tuple[float, float] = (0.7, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: bool = True

    def draw(self, count: int, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Boxes in images of `height` x `width` pixels: top, left, height, width, mirrored; int64 `[count, 5]`.

        Args:
            count: Number of images.
            height: Their rows of pixels.
            width: Their columns of pixels.
            rng: Where the numbers come from.
        """
        area = height * width * rng.uniform(*self.scale, (count, _TRIES))
        ratio = np.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), (count, _TRIES)))
        tries = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)]).round().astype(np.int64)
        fits = (tries[0] >= 1) & (tries[0] <= height) & (tries[1] >= 1) & (tries[1] <= width)
        some, first = fits.any(axis=1), fits.argmax(axis=1)
        down, across = np.where(some, tries[:, np.arange(count), first], self._largest(height, width))
        place = rng.random((3, count))
        place[:2, ~some] = 0.5
        top = (place[0] * (height - down + 1)).astype(np.int64)
        left = (place[1] * (width - across + 1)).astype(np.int64)
        mirrored = (place[2] < 0.5) & self.flip
        return torch.from_numpy(np.stack([top, left, down, across, mirrored], axis=1).astype(np.int64))

    def _largest(self, height: int, width: int) -> NDArray[np.int64]:
        """Height and width `[2, 1]` of the largest box of an allowed shape, for where no try gave one that fits."""
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        return np.array([[min(height, round(width / ratio))], [min(width, round(height * ratio))]])


def crop_one(picture: Tensor, box: list[int], height: int, width: int) -> Tensor:
    """The box of one image, uint8 `[3, H, W]`, as uint8 `[3, height, width]` (bilinear with antialiasing)."""
    from torchvision.transforms.v2 import functional

    top, left, down, across, mirrored = box
    cropped: Tensor = functional.resized_crop(
        picture, top, left, down, across, [height, width], antialias=True
    )
    return cropped.flip(2) if mirrored else cropped


def crop_batch(pictures: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """The boxes of a batch, float `[n, 3, H, W]`, as float `[n, 3, height, width]`, in one pass on a GPU.

    Bilinear without antialiasing, which hardly differs where boxes are about as large as the result.
    """
    rows, columns = pictures.shape[2:]
    top, left, down, across, mirrored = boxes.to(pictures.dtype).unbind(dim=1)
    zero = torch.zeros_like(top)
    side = 1 - 2 * mirrored
    theta = torch.stack(
        [
            torch.stack([side * across / columns, zero, (2 * left + across) / columns - 1], dim=1),
            torch.stack([zero, down / rows, (2 * top + down) / rows - 1], dim=1),
        ],
        dim=1,
    )
    grid = affine_grid(theta, [len(pictures), 3, height, width], align_corners=False)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False)
