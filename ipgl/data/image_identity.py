"""Content hashes of images over size and decoded pixels, independent of file name and format."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipgl.data.images import Images
from ipgl.data.pixel_file import CONTENT_BYTES
from ipgl.data.split_inputs import Inputs


def content_of(picture: Image.Image) -> bytes:
    """Hash (16 bytes) of an image's size and 8-bit channels."""
    shape = (picture.height, picture.width, len(picture.getbands()))
    return _new_digest(shape, "|u1", picture.tobytes()).digest()[:CONTENT_BYTES]


def contents_of(x: Inputs) -> list[bytes]:
    """The content of each input: of images the decoded RGB picture before it was resized, of tensors the values."""
    if isinstance(x, Images):
        return x.contents()
    rows: NDArray[np.generic] = np.ascontiguousarray(x.cpu().numpy())
    started = _new_digest(rows.shape[1:], rows.dtype.str)
    data, size = rows.tobytes(), rows[:1].nbytes
    found = []
    for row in range(len(rows)):
        digest = started.copy()
        digest.update(memoryview(data)[row * size : (row + 1) * size])
        found.append(digest.digest()[:CONTENT_BYTES])
    return found


def _new_digest(shape: tuple[int, ...], kind: str, data: bytes = b"") -> hashlib._Hash:
    # SHA-256 (FIPS 180-4), truncated: processors compute it in hardware, faster than a hash made for software.
    digest = hashlib.sha256(f"{shape} {kind}".encode(), usedforsecurity=False)
    digest.update(data)
    return digest
