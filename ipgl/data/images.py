"""Images as model inputs: sources that decode, and rows of the uint8 cache with a tensor's interface."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ipgl.data.augment import crop_batch, crop_one
from ipgl.data.pixel_file import Buffers, PixelFile

# Of ImageNet's training pixels in [0, 1]; what torchvision's weights expect, and a fair scale for others.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageSource(Protocol):
    """An image that can be decoded: a file, or a composition of several."""

    @property
    def key(self) -> str:
        """Identity of the content without reading it: equal keys mean equal pixels."""

    @property
    def where(self) -> str:
        """Place for error messages: the file, and the row that named it."""

    def read(self) -> Image.Image:
        """Decode, mode RGB.

        Raises:
            OSError: The file is missing, damaged, or no image.
            ValueError: The parts do not fit together.
        """


@dataclass(frozen=True)
class FileImage:
    """An image file; palettes, grey, CMYK and transparency (on black) become RGB."""

    path: Path
    where: str

    @property
    def key(self) -> str:
        """Path, size in bytes, and time of the last change (ns)."""
        try:
            status = self.path.stat()
        except OSError:
            return f"{self.path.absolute()}:missing"
        return f"{self.path.absolute()}:{status.st_size}:{status.st_mtime_ns}"

    def read(self) -> Image.Image:
        """Decode the whole file; errors as `ImageSource.read`."""
        with Image.open(self.path) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class SkippedImage:
    """A source that could not be read.

    Attributes:
        position: Its position among the sources.
        where: The source's place.
        reason: What was wrong.
    """

    position: int
    where: str
    reason: str


@dataclass(frozen=True)
class Images:
    """Rows of an image cache that behave like a float32 tensor `[N, 3, height, width]`.

    Slicing and `index_select` give the evaluation view: the centre crop, normalised with ImageNet's mean and
    standard deviation. Pixels stay on the host in a mapped file that all processes of a machine share; what is
    gathered goes to `device` as bytes and becomes float there. Pickling carries the file's name, not its pixels.

    Attributes:
        file: The cache, uint8 `[M, H, W, 3]`.
        rows: Rows of the cache, int64 `[N]`, on the CPU.
        height: Rows of pixels of an input, at most H.
        width: Columns of pixels of an input, at most W.
        digest: SHA-256 over the whole cache's pixels; equal on every machine.
        skipped: Sources that could not be read; their rows are black and must not be used.
        device: Where inputs are made.
    """

    file: PixelFile
    rows: Tensor
    height: int
    width: int
    digest: str
    skipped: tuple[SkippedImage, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _buffers: Buffers = field(default_factory=Buffers, repr=False, compare=False)

    def __len__(self) -> int:
        return self.rows.shape[0]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor that these rows represent."""
        return len(self), 3, self.height, self.width

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the cached images, pixels."""
        _, height, width, _ = self.file.array.shape
        return height, width

    @property
    def good(self) -> Tensor:
        """Positions of the images that could be read, int64, in order."""
        bad = torch.tensor([skipped.position for skipped in self.skipped], dtype=torch.int64)
        return (~torch.isin(self.rows, bad)).nonzero()[:, 0]

    def take(self, index: Tensor) -> Images:
        """A view of the same cache with rows `rows[index]` (int64 on the CPU, or a boolean mask)."""
        return replace(self, rows=self.rows[index])

    def to(self, device: torch.device, non_blocking: bool = False) -> Images:
        """The same rows, with inputs created on `device`; no pixel is copied yet."""
        return replace(self, device=device)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Evaluation view of some rows, float32 `[n, 3, height, width]` on `device`."""
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        full_height, full_width = self.stored_size
        top, left = (full_height - self.height) // 2, (full_width - self.width) // 2
        part = slice(top, top + self.height), slice(left, left + self.width)
        if self.device.type != "cpu":
            pixels = self._gather(rows, part)
            self.file.release()
            return normalised(pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float())
        source = self.file.array
        return self._on_host(rows, lambda i, row: torch.from_numpy(source[row][part]).permute(2, 0, 1))

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Evaluation view of the rows at `index` (int64 `[n]`), as `Tensor.index_select` with `dim` 0."""
        if dim != 0:
            raise ValueError(f"images can be selected along dimension 0 only, but got ({dim=})")
        return self[index]

    def training_view(self, index: Tensor, boxes: Tensor) -> Tensor:
        """Boxes of the rows at `index`, resized and normalised.

        Args:
            index: Positions, int64 `[n]`.
            boxes: Of `RandomResizedCrop.draw` for `stored_size`, int64 `[n, 5]`, on the CPU.

        Returns:
            float32 `[n, 3, height, width]` on `device`.
        """
        rows = self.rows[index.cpu()]
        if self.device.type != "cpu":
            pixels = self._gather(rows, (slice(None), slice(None))).to(self.device, non_blocking=True)
            self.file.release()
            pictures = pixels.permute(0, 3, 1, 2).float()
            boxes = boxes.pin_memory().to(self.device, non_blocking=True)
            return normalised(crop_batch(pictures, boxes, self.height, self.width))
        numbers, source = boxes.tolist(), self.file.array

        def crop(position: int, row: int) -> Tensor:
            picture = torch.from_numpy(source[row]).permute(2, 0, 1)
            return crop_one(picture, numbers[position], self.height, self.width)

        return self._on_host(rows, crop)

    def pixels(self, index: Tensor) -> Tensor:
        """The whole cached images at `index` (int64 `[n]`), uint8 `[n, H, W, 3]` on the CPU."""
        return torch.from_numpy(self.file.array[self.rows[index].numpy()])

    def contents(self) -> list[bytes]:
        """16 bytes for each row; two rows whose pictures have equal pixels before resizing have equal bytes."""
        known = self.file.contents()
        return [known[row] for row in self.rows.tolist()]

    def _gather(self, rows: Tensor, part: tuple[slice, slice]) -> Tensor:
        """Bytes of some rows, uint8 `[n, h, w, 3]`, in pinned memory, from which a copy need not be waited for."""
        source = self.file.array
        shape = (len(rows), *source[:0, part[0], part[1]].shape[1:])
        out = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for position, row in enumerate(rows.tolist()):
            out[position] = torch.from_numpy(source[row][part])
        return out

    def _on_host(self, rows: Tensor, picture: Callable[[int, int], Tensor]) -> Tensor:
        out = self._buffers.empty((len(rows), 3, self.height, self.width))
        target = out.numpy()
        scale, shift = (value.numpy() for value in scale_and_shift(out.device))
        numbers = rows.tolist()

        def fill(positions: range) -> None:
            for position in positions:
                # NumPy, because torch would start threads of its own from each of these.
                pixels = np.ascontiguousarray(picture(position, numbers[position]).numpy())
                np.multiply(pixels, scale, out=target[position])
                target[position] += shift

        threads = max(1, min(torch.get_num_threads(), len(numbers)))
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(fill, [range(first, len(numbers), threads) for first in range(threads)]):
                pass
        self.file.release()
        return out


@cache
def scale_and_shift(device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand, float32 `[3, 1, 1]`, that turn pixels of 0 to 255 into ImageNet-normalised values."""
    with torch.inference_mode(False):  # they are kept, and an evaluation may be the first to ask
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
        return 1 / (255 * std), -mean / std


def normalised(pixels: Tensor) -> Tensor:
    """Pixels of 0 to 255, float `[n, 3, H, W]`, less ImageNet's mean, over its standard deviation."""
    scale, shift = scale_and_shift(pixels.device)
    return torch.addcmul(shift, pixels, scale)
