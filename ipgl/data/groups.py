"""Group indices: `group = label * num_attributes + attribute`, as in the literature."""

from __future__ import annotations

import torch
from torch import Tensor


def group_index(y: Tensor, attribute: Tensor, num_attributes: int) -> Tensor:
    """Group of each example, int64 `[N]`, from labels and attributes of the same shape."""
    return y * num_attributes + attribute


def group_counts(y: Tensor, attribute: Tensor, num_classes: int, num_attributes: int) -> Tensor:
    """Examples per group, int64 `[num_classes, num_attributes]`."""
    index = group_index(y, attribute, num_attributes)
    return torch.bincount(index, minlength=num_classes * num_attributes).view(num_classes, num_attributes)
