"""Inputs of a split: tensors, cached images, and lazily transformed or blended inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ipgl.data.images import Images


@dataclass(frozen=True)
class LazyBlend:
    """Two sets of images, mixed when they are read: `(1 - share) * a + share * b`."""

    a: Images
    b: Images
    share: float

    def __len__(self) -> int:
        return len(self.a)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor that these images represent."""
        return self.a.shape

    def to(self, device: torch.device, non_blocking: bool = False) -> LazyBlend:
        """The same images, made on `device`."""
        return LazyBlend(self.a.to(device), self.b.to(device), self.share)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Evaluation view of some rows, float32 `[n, 3, height, width]`."""
        return torch.lerp(self.a[index], self.b[index], self.share)


@dataclass(frozen=True)
class LazyTransform:
    """Inputs that a function transforms when they are read, so that memory never holds a whole transformed split.

    Attributes:
        x: The inputs, `[N, ...]`.
        transform: Maps some inputs, `[n, ...]`, to outputs of the same shape.
    """

    x: Tensor
    transform: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor that these inputs represent."""
        return self.x.shape

    def to(self, device: torch.device, non_blocking: bool = False) -> LazyTransform:
        """The same inputs, made on `device`."""
        return LazyTransform(self.x.to(device, non_blocking=non_blocking), self.transform)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Some rows, changed."""
        return self.transform(self.x[index])


Inputs = Tensor | Images
# Inputs that evaluation can read sequentially.
Readable = Inputs | LazyBlend | LazyTransform

_VALUES = 2**24
# Of inputs that a CPU's cache holds together with what layers make of them, which makes a convolution three times as
# fast as in larger parts (`pytest -m bench -s tests/benchmarks/test_evaluation.py`); but no fewer inputs than that.
_VALUES_CPU, _LEAST_CPU = 2**18, 32


def view(x: Inputs, index: Tensor, boxes: Tensor | None = None) -> Tensor:
    """The inputs at `index` (int64 `[B]`), float32 `[B, ...]`; images as `training_view` where boxes are given."""
    return (
        x.training_view(index, boxes)
        if isinstance(x, Images) and boxes is not None
        else x.index_select(0, index)
    )


def parts(x: Readable, size: int, device: torch.device) -> Iterator[Tensor]:
    """Consecutive parts of at most `size` inputs and 64 MiB, so that memory does not grow with an image's size.

    Where the model that reads them is on a CPU (`device`), they are smaller still.
    """
    each = max(1, math.prod(x.shape[1:]))
    step = max(1, min(size, _VALUES // each))
    if device.type == "cpu":
        step = min(step, max(_LEAST_CPU, _VALUES_CPU // each))
    for start in range(0, max(1, len(x)), step):
        yield x[start : start + step]
