"""What makes two pictures the same: their size and their pixels, whatever the file's name and format."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ipgl.data.images import Images
from ipgl.data.inputs import Inputs
from ipgl.data.pixel_file import CONTENT_BYTES


def content_of(values: NDArray[np.generic]) -> bytes:
    """16 bytes that stand for an array's shape, type and values (BLAKE2b, RFC 7693); equal arrays have equal bytes."""
    digest = hashlib.blake2b(f"{values.shape} {values.dtype.str}".encode(), digest_size=CONTENT_BYTES)
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def contents_of(x: Inputs) -> list[bytes]:
    """The content of each input: of images the decoded RGB picture before it was resized, of tensors the values."""
    if isinstance(x, Images):
        return x.contents()
    return [content_of(row) for row in _array(x)]


def _array(x: Tensor) -> NDArray[np.generic]:
    array: NDArray[np.generic] = x.cpu().numpy()
    return array
