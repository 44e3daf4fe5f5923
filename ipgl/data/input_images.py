"""Model inputs as RGB images, for previews and for comparisons of pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipgl.data.images import Images
from ipgl.data.types import Dataset

RgbImages = NDArray[np.uint8]


def rgb_images(x: Tensor | Images, index: Tensor, dataset: Dataset) -> RgbImages:
    """The inputs at `index` (int64 `[n]`) as RGB, uint8 `[n, H, W, 3]`.

    Cached images are shown whole, as decoded. Of tensors, one channel is grey, two are red and green, and of more
    than three the first three are shown; the data set's range of values becomes 0 to 255.
    """
    if isinstance(x, Images):
        return np.asarray(x.pixels(index).numpy(), dtype=np.uint8)
    low, high = (float(torch.as_tensor(bound).min()) for bound in dataset.input_range)
    values = ((x[index.to(x.device)].cpu().float() - low) / (high - low) * 255).round().clamp(0, 255)
    channels = values.shape[1]
    if channels == 1:
        values = values.expand(-1, 3, -1, -1)
    elif channels == 2:
        values = torch.cat([values, torch.zeros_like(values[:, :1])], dim=1)
    return values[:, :3].to(torch.uint8).permute(0, 2, 3, 1).numpy()


def mean_colours(images: RgbImages, side: int) -> NDArray[np.float32]:
    """Mean colours of `side` x `side` fields, float32 `[n, side, side, 3]` in 0 to 255."""
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    pooled = torch.nn.functional.adaptive_avg_pool2d(planes, side)
    return np.asarray(pooled.permute(0, 2, 3, 1).numpy(), dtype=np.float32)
