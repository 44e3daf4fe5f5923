"""Inputs as pictures for people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def as_pictures(x: Tensor, input_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Inputs as RGB, uint8 `[N, H, W, 3]`.

    Args:
        x: Inputs `[N, C, H, W]`; one channel is grey, two are red and green, of more than three the first three.
        input_range: Values that become 0 and 255.
    """
    low, high = input_range
    scaled = ((x.detach().cpu().float() - low) / (high - low)).clamp(0, 1)
    count, channels = scaled.shape[:2]
    if channels == 1:
        rgb = scaled.expand(count, 3, *scaled.shape[2:])
    elif channels == 2:
        rgb = scaled.new_zeros(count, 3, *scaled.shape[2:])
        rgb[:, :2] = scaled
    else:
        rgb = scaled[:, :3]
    pictures: NDArray[np.uint8] = (rgb * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return pictures
