"""Memory-mapped file of uint8 images, and reusable buffers for batches made from it."""

from __future__ import annotations

import math
import mmap
import weakref
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CONTENT_BYTES = 16


class PixelFile:
    """uint8 `[M, H, W, 3]` in NumPy's format, mapped when first read; pickling carries the name alone.

    Beside it a file of the same name and ending `.content` holds a 16-byte hash for each row, of the image
    before it was resized.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[type[PixelFile], tuple[Path]]:
        return PixelFile, (self.path,)

    @cached_property
    def array(self) -> NDArray[np.uint8]:
        """All rows, read-only by convention; the mapping is private, so that torch accepts it without a copy."""
        array: NDArray[np.uint8] = np.load(self.path, mmap_mode="c")
        return array

    @property
    def content_path(self) -> Path:
        """The file of contents."""
        return self.path.with_suffix(".content")

    def contents(self) -> list[bytes]:
        """16 bytes for each row."""
        data = self.content_path.read_bytes()
        return [data[start : start + CONTENT_BYTES] for start in range(0, len(data), CONTENT_BYTES)]

    def release(self) -> None:
        """Give the pages read so far back to the system's cache, where they no longer count as this process's."""
        if isinstance(self.array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


class Buffers:
    """Reusable memory for batches: memory of tensors that no longer exist is reused.

    Fresh memory has to be cleared page by page by the system, which takes longer than making a batch.
    """

    _KEPT = 4

    def __init__(self) -> None:
        self._blocks: list[tuple[NDArray[np.float32], weakref.ref[NDArray[np.float32]]]] = []

    def __reduce__(self) -> tuple[type[Buffers], tuple[()]]:
        return Buffers, ()

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """An uninitialised float32 tensor; its memory is not used again while it, or a view of it, lives."""
        size = math.prod(shape)
        free = [n for n, (_, user) in enumerate(self._blocks) if user() is None]
        fitting = [n for n in free if self._blocks[n][0].size == size]
        block = self._blocks.pop(fitting[0])[0] if fitting else np.empty(size, dtype=np.float32)
        # A tensor keeps the array alive that it was made from, and this one was made for it alone.
        array = block[:]
        self._blocks = [(block, weakref.ref(array)), *self._blocks][: self._KEPT]
        return torch.from_numpy(array).view(shape)
