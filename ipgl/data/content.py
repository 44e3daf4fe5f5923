"""What makes two pictures the same: their size and their pixels, whatever the file's name and format."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ipgl.data.images import Images
from ipgl.data.inputs import Inputs
from ipgl.data.pixel_file import CONTENT_BYTES


def content_of(values: NDArray[np.generic]) -> bytes:
    """16 bytes that stand for an array's shape, type and values (BLAKE2b, RFC 7693); equal arrays have equal bytes."""
    return _contents(values[np.newaxis])[0]


def contents_of(x: Inputs) -> list[bytes]:
    """The content of each input: of images the decoded RGB picture before it was resized, of tensors the values."""
    return x.contents() if isinstance(x, Images) else _contents(x.cpu().numpy())


def _contents(rows: NDArray[np.generic]) -> list[bytes]:
    shape = f"{rows.shape[1:]} {rows.dtype.str}".encode()
    begun = hashlib.blake2b(shape, digest_size=CONTENT_BYTES)
    data = memoryview(np.ascontiguousarray(rows).reshape(-1)).cast("B")
    size = rows[:1].nbytes
    found = []
    for row in range(len(rows)):
        digest = begun.copy()
        digest.update(data[row * size : (row + 1) * size])
        found.append(digest.digest())
    return found
